#include <iostream>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "attention/conformance.h"
#include "attention/registry.h"
#include "commands.h"
#include "core/files.h"
#include "sweep/certificate.h"
#include "tensor/kernels/kernels.h"

namespace attnscale {
namespace {

ExitCode verify(const std::vector<std::string>& names, bool json, const std::string& out) {
  at::set_num_threads(1);  // small tensors: waiting for threads costs more than the work
  std::vector<const VariantInfo*> chosen;
  for (const auto& name : names) chosen.push_back(&variant_argument(name));
  if (names.empty())
    for (const auto& variant : all_variants()) chosen.push_back(&variant);
  std::vector<VariantReport> reports;
  bool passed = true;
  for (const auto* variant : chosen) {
    reports.push_back(verify_variant(*variant));
    const auto& report = reports.back();
    passed = passed && report.passed;
    if (json) continue;
    print(fmt::format("{}: {}\n", report.variant, report.passed ? "passed" : "FAILED"));
    for (const auto& check : report.checks)
      print(fmt::format("  {} {:<24} measured {:<10.3g} tolerance {:<10.3g}{}\n", check.passed ? "ok  " : "FAIL",
                        check.name, check.measured, check.tolerance, check.detail.empty() ? "" : " " + check.detail));
  }
  const auto certificate = certificate_of(to_json(reports));
  if (!out.empty()) write_file_atomically(out, certificate.dump(1) + "\n");
  if (json) print_json(certificate);
  return passed ? ExitCode::done : ExitCode::run_failed;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "verify", "Proves variants: causal, equal to the oracle, decode equal to train, FLOPs as executed");
  auto names = std::make_shared<std::vector<std::string>>();
  auto json = std::make_shared<bool>(false);
  command->add_option("name", *names, "variants; all when left out");
  command->add_flag("--json", *json, "one JSON document on standard output");
  auto out = std::make_shared<std::string>();
  command->add_option("--out", *out, "also write the certificate, as JSON, to this file");
  auto kernels = std::make_shared<std::string>("on");
  command->add_option("--kernels", *kernels, "off: LibTorch's operators alone, without the program's own CPU kernels")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  command->footer("Example: attnscale verify linear softmax");
  command->callback([=, &action] {
    action = [=] {
      if (*kernels == "off") set_kernels(false);
      return verify(*names, *json, *out);
    };
  });
}

}  // namespace attnscale

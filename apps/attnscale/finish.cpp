#include "finish.h"

#include <iostream>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "commands.h"
#include "core/files.h"
#include "core/signals.h"
#include "report/claims.h"
#include "report/report.h"
#include "scaling/fit.h"
#include "scaling/result_rows.h"
#include "scaling/scaling.h"
#include "sweep/certificate.h"

namespace attnscale {

void write_scaling(const std::filesystem::path& folder) {
  write_file_atomically(folder / "scaling.json", scaling_of_sweep(folder).dump(1) + "\n");
}

void certify(const std::filesystem::path& folder) {
  at::set_num_threads(1);  // small tensors: waiting for threads costs more than the work
  const auto say = [](const std::string& variant) {
    std::cerr << fmt::format("proving {} (once for this build on this machine)\n", variant);
  };
  const auto certificate = certificate_for(variants_of(read_result_rows(folder).rows), say, stop_requested);
  write_file_atomically(folder / "certificate.json", certificate.dump(1) + "\n");
}

namespace {

/// A claim that cannot be decided, for what its formulas ask for, is no reason for a sweep to fail.
void print_claims(const std::filesystem::path& folder) {
  if (const auto spec = read_json(folder / "spec.json").value; !spec.is_object() || !spec.contains("claims")) return;
  try {
    print("\n" + claims_text(claims_report(folder)));
  } catch (const ConfigError& error) {
    std::cerr << "the claims of the spec are not decided: " << error.what() << "\n";
  }
}

}  // namespace

void finish_sweep(const std::filesystem::path& folder) {
  certify(folder);
  write_scaling(folder);
  const auto files = write_report(folder);
  for (const auto& note : files.notes) std::cerr << note << "\n";
  print(results_table(folder));
  const Json scaling = read_json(folder / "scaling.json").value;
  print("\n" + fit_text(scaling.at("fits").at("all")));
  print_claims(folder);
  print(fmt::format("\nreport: {}\n", files.html.string()));
}

}  // namespace attnscale

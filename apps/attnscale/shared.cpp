// What several commands share: spec arguments and standard output.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <thread>

#include <fmt/format.h>
#include <unistd.h>

#include "commands.h"
#include "core/units.h"
#include "train/provenance.h"

namespace attnscale {

void SpecArguments::add_to(CLI::App& command) {
  command.add_option("spec", spec, "spec file (JSON); - reads standard input")->required();
  command.add_option("--set", set, "path=value, overrides the spec; repeatable (model.depth=4)")
      ->type_name("PATH=VALUE")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void SpecArguments::add_device_to(CLI::App& command) {
  command
      .add_option_function<std::string>(
          "--device", [this](const std::string& name) { set.push_back("train.device=" + name); },
          "cpu or cuda, short for --set train.device=...")
      ->check(CLI::IsMember({"cpu", "cuda"}));
}

void JobsArgument::add_to(CLI::App& command) {
  jobs_ = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  option_ = command.add_option("--jobs", jobs_, "runs side by side (default: one per core, as far as memory allows)")
                ->check(CLI::Range(1, 1024));
}

int JobsArgument::side_by_side(const Plan& plan) const {
  const bool given = option_->count() > 0;
  const auto on_cuda = [](const PlannedRun& run) { return run.train.device == "cuda"; };
  // Processes that share a GPU take turns, and their memory is not ours to count.
  if (!given && std::any_of(plan.runs.begin(), plan.runs.end(), on_cuda)) return 1;
  const auto memory = static_cast<double>(memory_limit_bytes());
  const int asked = std::min(jobs_, static_cast<int>(std::max<size_t>(1, plan.runs.size())));
  const int fit = jobs_that_fit(plan, asked, memory);
  if (fit == asked) return asked;
  const auto text = fmt::format(
      "the {} largest runs together need about {}, this machine has {} of memory; {} fit side by side", asked,
      bytes_text(static_cast<int64_t>(memory_side_by_side(plan, asked))), bytes_text(memory_limit_bytes()), fit);
  if (given) throw ConfigError(fmt::format("--jobs {}: {}: take --jobs {}", jobs_, text, fit));
  std::cerr << text << "\n";
  return fit;
}

std::filesystem::path folder_for(const std::string& out, const Plan& plan) {
  return out.empty() ? std::filesystem::path("results") / plan.name : std::filesystem::path(out);
}

namespace {

namespace fs = std::filesystem;

bool is_run(const fs::path& folder) { return fs::exists(folder / "config.json") || fs::exists(folder / "result.json"); }

/// Names of the runs in DIR/runs that begin with these letters, sorted.
std::vector<std::string> runs_beginning(const fs::path& runs, const std::string& letters) {
  std::vector<std::string> names;
  if (fs::is_directory(runs))
    for (const auto& entry : fs::directory_iterator(runs))
      if (const auto name = entry.path().filename().string(); name.starts_with(letters) && is_run(entry.path()))
        names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

fs::path run_argument(const std::string& text) {
  auto path = fs::path(text).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // a slash at the end
  if (is_run(path)) return path;
  const bool is_sweep = fs::is_directory(path / "runs");
  const auto sweep = is_sweep                                  ? path
                     : path.parent_path().filename() == "runs" ? path.parent_path().parent_path()
                                                               : path.parent_path();
  const auto runs = (sweep.empty() ? fs::path(".") : sweep) / "runs";
  const auto letters = is_sweep ? std::string() : path.filename().string();
  if (!fs::is_directory(runs))
    throw IoError(fmt::format("{}: no such run; expected a run's folder, or DIR/ID in a sweep's folder", text));
  const auto found = runs_beginning(runs, letters);
  if (found.size() == 1) return runs / found.front();
  const auto all = runs_beginning(runs, "");
  if (found.empty() && all.empty()) throw DataError(fmt::format("{}: no run has begun here", text));
  if (found.empty())
    throw DataError(fmt::format("{}: no run here begins with {}; there are {}, such as {}", text, letters, all.size(),
                                all.front()));
  throw DataError(
      fmt::format("{}: {} runs begin so, such as {} and {}; name one of them", text, found.size(), found[0], found[1]));
}

const VariantInfo& variant_argument(const std::string& name) {
  try {
    return variant_named(name);
  } catch (const ConfigError& error) {
    throw Error(error.what(), ExitCode::usage);
  }
}

void print(const std::string& text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EPIPE) std::exit(static_cast<int>(ExitCode::done));
    if (written < 0) throw IoError(std::string("standard output: ") + std::strerror(errno));
    rest.remove_prefix(static_cast<size_t>(written));
  }
}

void print_json(const Json& document) { print(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"); }

}  // namespace attnscale

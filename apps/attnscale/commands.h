#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "attention/registry.h"
#include "core/error.h"
#include "core/json.h"
#include "sweep/plan.h"

namespace attnscale {

/// What the chosen subcommand does once the arguments are read; returns the exit code.
using Action = std::function<ExitCode()>;

/// Each adds one subcommand and, when it is the one chosen, sets `action`.
void add_list(CLI::App& app, Action& action);
void add_describe(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_schema(CLI::App& app, Action& action);
void add_docs(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_sweep(CLI::App& app, Action& action);
void add_fit(CLI::App& app, Action& action);
void add_compare(CLI::App& app, Action& action);
void add_runs(CLI::App& app, Action& action);
void add_diff(CLI::App& app, Action& action);
void add_why(CLI::App& app, Action& action);
void add_fsck(CLI::App& app, Action& action);
void add_rerun(CLI::App& app, Action& action);
void add_init(CLI::App& app, Action& action);
void add_completions(CLI::App& app, Action& action);
void add_report(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_coordinates(CLI::App& app, Action& action);
void add_optimum(CLI::App& app, Action& action);
void add_verdict(CLI::App& app, Action& action);
void add_draw(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_doctor(CLI::App& app, Action& action);
void add_watch(CLI::App& app, Action& action);
void add_worker(CLI::App& app, Action& action);
void add_slurm_task(CLI::App& app, Action& action);

/// Arguments that the commands which read a spec share.
struct SpecArguments {
  std::string spec;
  std::vector<std::string> set;
  void add_to(CLI::App& command);
  void add_device_to(CLI::App& command);  ///< --device: short for --set train.device=...
};

/// --jobs, with one run per core where it is not given.
class JobsArgument {
 public:
  void add_to(CLI::App& command);

  /// How many runs to do side by side: as many as asked for; where that was not said, one on a CUDA device, and on the
  /// CPU no more than fit into memory together, with a word on standard error.
  /// @throws ConfigError if those that were asked for do not fit, with how many would
  int side_by_side(const Plan& plan) const;

  /// As many as asked for; 0 where that was not said.
  int given() const { return option_->count() > 0 ? jobs_ : 0; }

 private:
  int jobs_ = 1;
  CLI::Option* option_ = nullptr;
};

/// Where a plan's results go: `out`, or results/NAME.
std::filesystem::path folder_for(const std::string& out, const Plan& plan);

/// A run's folder: as named, or DIR/ID and DIR/runs/ID with the first letters of the id, or DIR if it holds one run.
/// @throws DataError (no such run, with those that are there; several), IoError
std::filesystem::path run_argument(const std::string& text);

/// @throws Error with ExitCode::usage and the nearest name, for an argument that names no variant
const VariantInfo& variant_argument(const std::string& name);

/// Prints to standard output; a reader that went away ends the program quietly, a full disk with IoError.
void print(const std::string& text);
void print_json(const Json& document);

}  // namespace attnscale

#pragma once

#include <string>
#include <vector>

#include "commands.h"
#include "train/run_config.h"

namespace attnscale {

/// What the subcommands of `bench` share.

/// The config that `bench` measures where nothing else is said, with changes.
/// @param defaults  a JSON merge patch that comes before the assignments
RunConfig bench_config(const std::vector<std::string>& assignments, const Json& defaults = Json::object());

/// `median (minimum to maximum)`
std::string spread_text(const Json& timing);

/// --threads, --warmup, --repetitions and --clock, of a bench that has these. @param what  is repeated: `steps`
template <class Bench>
void add_timing(CLI::App& command, Bench& bench, const std::string& what, int most_repetitions = 10000) {
  command.add_option("--threads", bench.threads, "threads")->check(CLI::Range(1, 1024))->capture_default_str();
  command.add_option("--warmup", bench.warmup, "untimed " + what)->check(CLI::Range(0, 1000))->capture_default_str();
  command.add_option("--repetitions", bench.repetitions, "timed " + what)
      ->check(CLI::Range(1, most_repetitions))
      ->capture_default_str();
  command.add_option("--clock", bench.clock, "wall, or processor: time spent on it, steadier on a shared machine")
      ->capture_default_str();
}

void add_set(CLI::App& command, std::vector<std::string>& set);
void add_against(CLI::App& command, std::string& against, std::string& python, const char* description);

/// Each adds one subcommand of `bench`.
void add_bench_curve(CLI::App& bench, Action& action);
void add_bench_generate(CLI::App& bench, Action& action);
void add_bench_sweep(CLI::App& bench, Action& action);

}  // namespace attnscale

// The subcommands of `bench` that measure whole pieces of work: learning, decoding, a sweep.

#include <cmath>
#include <filesystem>
#include <thread>

#include <fmt/format.h>

#include "bench.h"
#include "bench/curve.h"
#include "bench/generation.h"
#include "bench/python_training.h"
#include "bench/sweeping.h"
#include "core/scratch_folder.h"
#include "core/table.h"
#include "core/units.h"

namespace attnscale {
namespace {

std::string percent_text(double share) { return fmt::format("{:+.3f} %", 100 * share); }

ExitCode curve(const std::vector<std::string>& assignments, const CurveBench& bench, bool json) {
  const Json result = bench_curve(bench_config(assignments), bench);
  if (json) {
    print_json(result);
    return ExitCode::done;
  }
  Table table;
  table.add_column("loss over steps");
  const bool python = result["loss"].contains("python");
  table.add_column(
      fmt::format("{}, kernels {}", result["dtype"].get<std::string>(), result["kernels"].get<std::string>()),
      Table::right);
  table.add_column("float32, LibTorch's operators", Table::right);
  if (python) table.add_column("float32, PyTorch " + result["torch"].get<std::string>(), Table::right);
  const auto& losses = result["loss"];
  for (size_t i = 0; i < losses["run"].size(); ++i) {
    const auto last = static_cast<int64_t>(i + 1) * bench.window;
    std::vector<std::string> row = {fmt::format("{} to {}", last - bench.window + 1, last)};
    for (const auto* side : {"run", "float32", "python"})
      if (losses.contains(side)) row.push_back(fmt::format("{:.5f}", losses[side][i].get<double>()));
    table.add_row(row);
  }
  print(table.text(200) + "\n");
  for (const auto& [side, distance] : result["last"].items())
    print(fmt::format("from {}: {} in the last {} steps, {:.3f} % at most in any\n",
                      side == "python" ? "PyTorch" : "float32 on LibTorch's operators",
                      percent_text(distance.get<double>()), bench.window, 100 * result["worst"][side].get<double>()));
  return ExitCode::done;
}

ExitCode generation(const std::vector<std::string>& assignments, const GenerationBench& bench, bool json) {
  const Json sizes = {{"model", {{"depth", 6}, {"model_dim", 384}, {"num_heads", 6}}}};
  const Json result = bench_generation(bench_config(assignments, sizes), bench);
  if (json) {
    print_json(result);
    return ExitCode::done;
  }
  Table table;
  for (const auto* title : {"tokens before", "ms per token", "tokens per second", "state"})
    table.add_column(title, Table::right);
  const bool python = result.contains("python");
  if (python)
    for (const auto* title : {"PyTorch", "ms per token", "times slower than this", "interval"})
      table.add_column(title, Table::right);
  for (const auto& row : result["rows"]) {
    std::vector<std::string> cells = {row["length"].dump(), spread_text(row["ms_per_token"]),
                                      fmt::format("{:.0f}", row["tokens_per_second"].get<double>()),
                                      bytes_text(row["state_bytes"].get<int64_t>())};
    if (!python) {
      table.add_row(cells);
      continue;
    }
    for (const auto& mode : row["python"]["modes"]) {
      const auto& slower = mode["times_slower"];
      const auto name = mode["mode"].get<std::string>();
      for (const auto& cell : {name + (row["python"]["best"] == name ? " (best)" : ""),
                               spread_text(mode["ms_per_token"]), fmt::format("{:.2f}", slower["median"].get<double>()),
                               fmt::format("{:.2f} to {:.2f}, {:.0f} %", slower["low"].get<double>(),
                                           slower["high"].get<double>(), 100 * slower["confidence"].get<double>())})
        cells.push_back(cell);
      table.add_row(cells);
      cells.assign(4, "");
    }
  }
  print(table.text(200));
  print(
      fmt::format("\n{}, {} parameters, batch 1, {} threads, {}; medians (minimum to maximum) of {} times {} tokens\n",
                  result["attention"]["variant"].get<std::string>(), count_text(result["params"].get<double>()),
                  bench.threads, bench.dtype, bench.repetitions, bench.tokens));
  return ExitCode::done;
}

ExitCode sweeping(const SweepBench& bench, bool json) {
  const Json result = bench_sweep(bench);
  if (json) {
    print_json(result);
    return ExitCode::done;
  }
  const bool python = result.contains("python");
  Table table;
  for (const auto* title : {"layers x width", "runs", "s"}) table.add_column(title, Table::right);
  if (python)
    for (const auto* title : {"PyTorch: best way", "s", "processor s", "times slower"})
      table.add_column(title, Table::right);
  for (const auto& row : result["sizes"]) {
    std::vector<std::string> cells = {fmt::format("{} x {}", row["depth"].dump(), row["model_dim"].dump()),
                                      row["runs"].dump(), fmt::format("{:.1f}", row["seconds"].get<double>())};
    if (python) {
      const auto& theirs = row["python"];
      cells.push_back(fmt::format("{}, {} threads", theirs["mode"].get<std::string>(), theirs["threads"].dump()));
      cells.push_back(fmt::format("{:.1f}", theirs["seconds"].get<double>()));
      cells.push_back(fmt::format("{:.1f}", theirs["processor_seconds"].get<double>()));
      cells.push_back(fmt::format("{:.2f}", theirs["times_slower"].get<double>()));
    }
    table.add_row(cells);
  }
  print(table.text(200));
  print(fmt::format("\n{} runs of {} steps in {:.1f} s{}, {} side by side, {}; {:.1f} s of processors\n",
                    result["runs"].dump(), bench.steps, result["seconds"].get<double>(),
                    python ? fmt::format(" (before {:.1f}, after {:.1f})", result["sweeps"][0].get<double>(),
                                         result["sweeps"][1].get<double>())
                           : "",
                    bench.jobs, bench.dtype, result["processor_seconds"].get<double>()));
  if (!python) return ExitCode::done;
  const auto& theirs = result["python"];
  print(fmt::format(
      "a loop of Python processes: {:.1f} s, {:.2f} times as long (of one size {:.2f} to {:.2f}); {:.1f} s of "
      "processors{}\n",
      theirs["seconds"].get<double>(), theirs["times_slower"].get<double>(), theirs["lowest"].get<double>(),
      theirs["highest"].get<double>(), theirs["processor_seconds"].get<double>(),
      theirs["extrapolated"] == true
          ? fmt::format("; extrapolated from {} of {} runs", theirs["runs"].dump(), result["runs"].dump())
          : ""));
  return ExitCode::done;
}

struct Shared {
  std::vector<std::string> set;
  std::string against, python = "python3";
  bool json = false;
  std::string interpreter() const { return against.empty() ? "" : python; }
};

void add_shared(CLI::App& command, Shared& shared, const char* against) {
  add_against(command, shared.against, shared.python, against);
  command.add_flag("--json", shared.json, "one JSON document on standard output");
}

}  // namespace

void add_bench_curve(CLI::App& bench, Action& action) {
  auto* command = bench.add_subcommand(
      "curve", "Whether a fast step learns what a plain one does: the losses of both on the same batches");
  auto options = std::make_shared<CurveBench>();
  auto shared = std::make_shared<Shared>();
  add_set(*command, shared->set);
  command->add_option("--steps", options->steps, "steps, a multiple of the window")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--window", options->window, "steps whose losses are averaged")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--threads", options->threads, "threads")->check(CLI::Range(1, 1024))->capture_default_str();
  add_shared(*command, *shared, "python: a plain PyTorch loop in float32 goes along, from the same weights");
  command->footer("Example: attnscale bench curve --set train.dtype=bfloat16 --steps 500");
  command->callback([=, &action] {
    options->python = shared->interpreter();
    action = [=] { return curve(shared->set, *options, shared->json); };
  });
}

void add_bench_generate(CLI::App& bench, Action& action) {
  auto* command = bench.add_subcommand("generate", "Times decoding of one sequence, token by token");
  auto options = std::make_shared<GenerationBench>();
  auto shared = std::make_shared<Shared>();
  add_set(*command, shared->set);
  command->add_option("--lengths", options->lengths, "tokens that the text has already")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command->add_option("--tokens", options->tokens, "tokens of a repetition")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "of weights and state: float32, bfloat16 or float64")
      ->capture_default_str();
  add_timing(*command, *options, "repetitions");
  add_shared(*command, *shared, "python: a plain PyTorch loop with a cache decodes beside it, in turns");
  command->footer(
      "Example: attnscale bench generate --dtype bfloat16 --against python\n"
      "attnscale bench generate --set attention.variant=linear --lengths 1000,10000,100000");
  command->callback([=, &action] {
    options->python = shared->interpreter();
    action = [=] { return generation(shared->set, *options, shared->json); };
  });
}

void add_bench_sweep(CLI::App& bench, Action& action) {
  auto* command = bench.add_subcommand("sweep", "Times a sweep of small models, all of it but fits and report");
  auto options = std::make_shared<SweepBench>();
  auto shared = std::make_shared<Shared>();
  options->jobs = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  command->add_option("--jobs", options->jobs, "runs side by side (default: one per core)")->check(CLI::Range(1, 1024));
  command->add_option("--depths", options->depths, "layers")->delimiter(',')->capture_default_str();
  command->add_option("--widths", options->widths, "widths")->delimiter(',')->capture_default_str();
  command->add_option("--learning-rates", options->learning_rates, "learning rates of each size")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--steps", options->steps, "steps of a run")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "of our runs: float32 or bfloat16")->capture_default_str();
  add_shared(*command, *shared, "python: the same runs as a loop of Python processes, between two sweeps of ours");
  command->add_option("--modes", options->modes, "of PyTorch that are tried on each size; the fastest counts")
      ->delimiter(',')
      ->check(CLI::IsMember(python_modes));
  command
      ->add_option(
          "--python-runs", options->python_runs,
          "runs of each size that Python makes; the others are taken to last as long (compiled: as the second)")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->footer("Example: attnscale bench sweep --against python --python-runs 1");
  command->callback([=, &action] {
    options->python = shared->interpreter();
    options->program = std::filesystem::read_symlink("/proc/self/exe");
    action = [=] {
      const ScratchFolder folder("bench");
      auto bench = *options;
      bench.folder = folder.path;
      return sweeping(bench, shared->json);
    };
  });
}

}  // namespace attnscale

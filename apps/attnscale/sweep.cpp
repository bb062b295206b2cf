#include "sweep/sweep.h"

#include <iostream>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "commands.h"
#include "core/signals.h"
#include "finish.h"
#include "slurm.h"
#include "sweep/worker.h"

namespace attnscale {
namespace {

ExitCode end_interrupted() {
  std::cerr << "interrupted: what is done is kept; run the same command to go on\n";
  return ExitCode::interrupted;
}

ExitCode sweep(const SweepArguments& arguments) {
  if (arguments.slurm.wanted()) return sweep_by_slurm(arguments);
  catch_stop_signals();
  const Spec spec = read_spec(arguments.spec.spec, arguments.spec.set);
  const Plan plan = make_plan(spec);
  const int jobs = arguments.jobs.side_by_side(plan);
  const auto folder = folder_for(arguments.out, plan);
  std::cerr << fmt::format("{}: {} runs, {} side by side, into {}\n", plan.name, plan.runs.size(), jobs,
                           folder.string());
  const auto outcome = run_sweep(spec, plan,
                                 {.folder = folder,
                                  .program = std::filesystem::read_symlink("/proc/self/exe"),
                                  .jobs = jobs,
                                  .threads = arguments.threads,
                                  .lease_seconds = arguments.lease_seconds});
  if (outcome.interrupted) return end_interrupted();
  if (outcome.leads) finish_sweep(folder);
  else std::cerr << fmt::format("all runs have ended; {} keeps the table and writes the report\n", outcome.leader);
  if (outcome.stopped > 0)
    std::cerr << fmt::format(
        "{} of {} runs were stopped early by the spec's rule; fits and comparisons leave them out\n", outcome.stopped,
        plan.runs.size());
  if (outcome.flagged > 0)
    std::cerr << fmt::format("{} of {} finished runs are doubtful: see \"flags\" in results.jsonl\n", outcome.flagged,
                             outcome.done);
  if (outcome.code() != ExitCode::done)
    std::cerr << fmt::format("{} diverged, {} failed; see the report\n", outcome.diverged, outcome.failed);
  return outcome.code();
}

ExitCode train(const SpecArguments& arguments, const std::string& out, int threads) {
  catch_stop_signals();
  at::set_num_threads(threads);
  const Spec spec = read_spec(arguments.spec, arguments.set);
  const Plan plan = make_plan(spec);
  if (plan.runs.size() != 1) {
    std::cerr << fmt::format("{}: plans {} runs; train does one. Use attnscale sweep, or fix the axes with --set\n",
                             arguments.spec, plan.runs.size());
    return ExitCode::usage;
  }
  const auto folder = folder_for(out, plan);
  const Json row = run_single(spec, plan, folder);
  const auto status = row.value("status", "");
  if (status == "interrupted") return end_interrupted();
  if (status == "done") {
    print(fmt::format("validation loss {:.4f} nats per token after {} steps\n", row["loss"].get<double>(),
                      row["steps"].get<int64_t>()));
    if (row.contains("flags"))
      for (const auto& flag : row["flags"]) print(flag.get<std::string>() + "\n");
  } else print(fmt::format("{}: {}\n", status, row.value("message", "")));
  finish_sweep(folder);
  return status == "done" ? ExitCode::done : ExitCode::run_failed;
}

}  // namespace

void add_sweep(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("sweep", "Trains every run of a spec, fits scaling laws, writes the report");
  auto arguments = std::make_shared<SweepArguments>();
  arguments->spec.add_to(*command);
  arguments->spec.add_device_to(*command);
  command->add_option("--out", arguments->out, "folder for the results (default results/NAME)");
  arguments->jobs.add_to(*command);
  command->add_option("--threads", arguments->threads, "threads of each run")->check(CLI::Range(1, 1024));
  command
      ->add_option("--lease", arguments->lease_seconds,
                   "seconds without a sign of life after which another process may take a run over")
      ->check(CLI::Range(0.5, 86400.0))
      ->capture_default_str();
  arguments->slurm.add_to(*command);
  command->footer(
      "Example: attnscale sweep experiments/quickstart/spec.json --out results/quickstart --jobs 2\n"
      "Interrupted or killed? Run the same command again: what is done is not done twice.\n"
      "More machines? Run it on each of them, with one folder that all see: they share the runs.\n"
      "A cluster? attnscale sweep spec.json --executor slurm --sbatch=--time=2:00:00, then --status, then --collect.");
  command->callback([=, &action] {
    arguments->slurm.check();
    action = [=] { return sweep(*arguments); };
  });
}

void add_train(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("train", "Trains the one run of a spec in this process");
  auto arguments = std::make_shared<SpecArguments>();
  auto out = std::make_shared<std::string>();
  auto threads = std::make_shared<int>(1);
  arguments->add_to(*command);
  arguments->add_device_to(*command);
  command->add_option("--out", *out, "folder for the results (default results/NAME)");
  command->add_option("--threads", *threads, "threads")->check(CLI::Range(1, 1024));
  command->footer("Example: attnscale train experiments/shakespeare/published.json --set data.path=input.txt");
  command->callback([=, &action] { action = [=] { return train(*arguments, *out, *threads); }; });
}

void add_worker(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("worker", "Serves runs to a sweep over standard input and output");
  command->group("");  // started by sweep, not by people
  auto threads = std::make_shared<int>(1);
  command->add_option("--threads", *threads, "threads")->check(CLI::Range(1, 1024));
  command->callback([=, &action] { action = [=] { return static_cast<ExitCode>(serve_runs(*threads)); }; });
}

}  // namespace attnscale

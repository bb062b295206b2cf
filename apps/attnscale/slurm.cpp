#include "slurm.h"

#include <algorithm>
#include <cctype>
#include <iostream>
#include <map>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/signals.h"
#include "finish.h"
#include "sweep/slurm.h"
#include "train/run_result.h"

namespace attnscale {

void SlurmArguments::add_to(CLI::App& command) {
  command
      .add_option("--executor", executor, "local: processes here; slurm: job arrays, which this command only submits")
      ->check(CLI::IsMember({"local", "slurm"}))
      ->capture_default_str();
  command.add_flag("--status", status, "with slurm: where the runs stand; submits nothing");
  command.add_flag("--collect", collect, "with slurm: table, fits and report of the runs that have ended");
  command.add_option("--sbatch", sbatch, "with slurm: an option of sbatch, repeatable (--sbatch=--partition=gpu)")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command
      .add_option("--notice", notice_seconds,
                  "with slurm: seconds before a job's time limit in which its run saves and is put back into the queue")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
}

void SlurmArguments::check() const {
  if (status && collect) throw CLI::ValidationError("sweep", "--status and --collect are two things: take one");
  if (wanted()) return;
  if (status || collect || !sbatch.empty())
    throw CLI::ValidationError("sweep", "--status, --collect and --sbatch need --executor slurm");
}

namespace {

/// `12 of 40 runs have ended (1 diverged), 3 running, 25 pending`. A run that failed, and is in the queue again, has
/// not.
std::string standing(const Plan& plan, const std::map<std::string, Json>& rows,
                     const std::map<std::string, std::string>& states) {
  std::map<std::string, size_t> ends, waits;
  size_t ended = 0;
  for (const auto& run : plan.runs) {
    const auto row = rows.find(run.id);
    const auto state = states.find(run.id);
    if (row != rows.end() && (decides(row->second, plan.rule()) || (state == states.end() && !decides(row->second)))) {
      ++ended;
      ++ends[row->second.value("status", "")];
    } else if (state != states.end()) {
      ++waits[state->second];
    } else {
      ++waits["not in the queue"];
    }
  }
  auto text = fmt::format("{} of {} runs have ended", ended, plan.runs.size());
  for (const auto& [status, count] : ends)
    if (status != "done") text += fmt::format(" ({} {})", count, status);
  for (const auto& [state, count] : waits) {
    text += fmt::format(", {} ", count);
    for (const char c : state) text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return text + "\n";
}

ExitCode collect(const Spec& spec, const Plan& plan, const std::filesystem::path& folder, double lease_seconds) {
  const auto states = slurm_states(folder);
  std::map<std::string, Json> rows;
  {
    Store store(folder, plan, lease_seconds);
    store.settle_lead(stop_requested);
    store.write_plan(spec, plan);
    store.finish();
    rows = store.rows();
  }
  if (rows.empty()) {
    std::cerr << folder.string() << ": no run has ended yet\n";
    return ExitCode::interrupted;
  }
  finish_sweep(folder);
  print(standing(plan, rows, states));
  if (rows.size() < plan.runs.size()) return ExitCode::interrupted;
  const auto good = [](const auto& row) {
    const auto status = row.second.value("status", "");
    return status == "done" || status == "stopped";
  };
  return std::all_of(rows.begin(), rows.end(), good) ? ExitCode::done : ExitCode::run_failed;
}

ExitCode slurm_task(const std::string& folder, const std::string& list, int64_t index, int threads,
                    double lease_seconds) {
  catch_stop_signals();
  at::set_num_threads(threads);
  const Json row = run_slurm_task(folder, list, index, lease_seconds);
  const auto status = row.value("status", "");
  std::cerr << fmt::format("{}: {} {}\n", row.value("id", ""), status, row.value("message", ""));
  if (status == "interrupted") return ExitCode::interrupted;
  return status == "done" || status == "stopped" ? ExitCode::done : ExitCode::run_failed;
}

}  // namespace

ExitCode sweep_by_slurm(const SweepArguments& arguments) {
  const Spec spec = read_spec(arguments.spec.spec, arguments.spec.set);
  const Plan plan = make_plan(spec);
  const auto folder = folder_for(arguments.out, plan);
  if (arguments.slurm.status) {
    const auto states = slurm_states(folder);  // before the results: a run that ends meanwhile has ended
    print(standing(plan, peek_results(folder, plan, Peek::failed_too), states));
    return ExitCode::done;
  }
  if (arguments.slurm.collect) return collect(spec, plan, folder, arguments.lease_seconds);
  const auto submission = submit_to_slurm(spec, plan,
                                          {.folder = folder,
                                           .program = std::filesystem::read_symlink("/proc/self/exe"),
                                           .threads = arguments.threads,
                                           .side_by_side = arguments.jobs.given(),
                                           .notice_seconds = arguments.slurm.notice_seconds,
                                           .lease_seconds = arguments.lease_seconds,
                                           .sbatch = arguments.slurm.sbatch});
  std::cerr << fmt::format("{} runs: {} done, {} in the queue already, {} submitted{}\n", plan.runs.size(),
                           submission.done, submission.queued, submission.runs,
                           submission.jobs.empty() ? "" : fmt::format(" as job {}", fmt::join(submission.jobs, ", ")));
  std::cerr << "The same command with --status says where they stand, with --collect makes table and report.\n";
  return ExitCode::done;
}

void add_slurm_task(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("slurm-task", "Trains one run of a job array");
  command->group("");  // started by SLURM, not by people
  auto folder = std::make_shared<std::string>(), list = std::make_shared<std::string>();
  auto index = std::make_shared<int64_t>(0);
  auto threads = std::make_shared<int>(1);
  auto lease_seconds = std::make_shared<double>(60);
  command->add_option("dir", *folder, "folder of the results")->required();
  command->add_option("list", *list, "file with the array's run ids")->required();
  command->add_option("index", *index, "place in that list")->required();
  command->add_option("--threads", *threads, "threads")->check(CLI::Range(1, 1024));
  command->add_option("--lease", *lease_seconds, "as of sweep");
  command->callback(
      [=, &action] { action = [=] { return slurm_task(*folder, *list, *index, *threads, *lease_seconds); }; });
}

}  // namespace attnscale

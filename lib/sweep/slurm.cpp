#include "sweep/slurm.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <set>
#include <sstream>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/files.h"
#include "core/lease.h"
#include "core/signals.h"
#include "sweep/stopping_ledger.h"
#include "sweep/sweep.h"
#include "train/config_resolver.h"
#include "train/trainer.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

/// Runs one of SLURM's commands and returns what it prints. @throws IoError with its words if it fails
std::string ask_slurm(const std::vector<std::string>& words) {
  int out[2];
  if (::pipe2(out, O_CLOEXEC) != 0)
    throw IoError(fmt::format("cannot make a pipe for {}: {}", words[0], std::strerror(errno)));
  std::vector<char*> arguments;
  for (const auto& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) throw IoError(fmt::format("cannot start {}: {}", words[0], std::strerror(errno)));
  if (child == 0) {
    ::dup2(out[1], STDOUT_FILENO);
    ::dup2(out[1], STDERR_FILENO);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(out[1]);
  std::string text;
  char block[4096];
  for (ssize_t count; (count = ::read(out[0], block, sizeof block)) != 0;) {
    if (count > 0) text.append(block, static_cast<size_t>(count));
    else if (errno != EINTR) break;
  }
  ::close(out[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
    throw IoError(
        fmt::format("{}: no such command here; --executor slurm needs a host that submits to SLURM", words[0]));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw IoError(fmt::format("{}: {}", fmt::join(words, " "), text.substr(0, text.find_last_not_of('\n') + 1)));
  return text;
}

/// Tasks that one array may have.
size_t largest_array() {
  std::istringstream lines(ask_slurm({"scontrol", "show", "config"}));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("MaxArraySize"))
      return std::max<size_t>(1, std::strtoull(line.c_str() + line.find('=') + 1, nullptr, 10));
  return 1001;  // SLURM's own default
}

/// In single quotes of a shell.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

Json read_submissions(const fs::path& folder) {
  const auto file = folder / "slurm" / "submitted.json";
  return fs::exists(file) ? read_json(file).value : Json{{"schema", "attnscale.slurm/1"}, {"arrays", Json::array()}};
}

/// What each task does. In the background, so that the shell hears the signal that --signal=B: sends to it.
std::string batch_script(const SlurmOptions& options, const fs::path& folder, const fs::path& list, size_t tasks,
                         const std::string& name) {
  std::string script = "#!/bin/bash\n";
  const auto sbatch = [&](const std::string& option) { script += "#SBATCH " + option + "\n"; };
  sbatch("--job-name=" + name);
  sbatch(fmt::format("--array=0-{}{}", tasks - 1,
                     options.side_by_side > 0 ? fmt::format("%{}", options.side_by_side) : ""));
  sbatch("--requeue");
  sbatch("--open-mode=append");
  sbatch(fmt::format("--signal=B:USR1@{}", options.notice_seconds));
  sbatch(fmt::format("--cpus-per-task={}", options.threads));
  for (const auto& option : options.sbatch) sbatch(option);
  return script + fmt::format(R"(exec >> {}/"$SLURM_ARRAY_JOB_ID"_"$SLURM_ARRAY_TASK_ID".out 2>&1
{} slurm-task {} {} "$SLURM_ARRAY_TASK_ID" --threads {} --lease {} &
task=$!
trap 'kill -USR1 $task' USR1 TERM
wait $task; status=$?
while kill -0 $task 2>/dev/null; do wait $task; status=$?; done
if [ $status -eq 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
)",
                              quoted((folder / "slurm").string()), quoted(options.program.string()),
                              quoted(folder.string()), quoted(list.string()), options.threads, options.lease_seconds);
}

}  // namespace

std::map<std::string, std::string> slurm_states(const fs::path& folder) {
  std::map<std::string, std::string> ids, states;  // ids by `job_task`
  std::vector<std::string> jobs;
  const auto submissions = read_submissions(folder);
  for (const auto& array : submissions.at("arrays")) {
    const auto job = array.at("job").get<std::string>();
    jobs.push_back(job);
    const auto& runs = array.at("runs");
    for (size_t i = 0; i < runs.size(); ++i) ids[fmt::format("{}_{}", job, i)] = runs[i].get<std::string>();
  }
  if (jobs.empty()) return states;
  // Of all of the user's jobs: asked for those that are long gone, squeue fails.
  std::istringstream lines(ask_slurm({"squeue", "--noheader", "--array", "--me", "--format=%F_%K %T"}));
  for (std::string task, state; lines >> task >> state;)
    if (const auto run = ids.find(task); run != ids.end()) states[run->second] = state;
  return states;
}

Submission submit_to_slurm(const Spec& spec, const Plan& plan, const SlurmOptions& options) {
  const auto folder = fs::absolute(options.folder).lexically_normal();
  Submission submission;
  const size_t most = largest_array();
  Store store(folder, plan, options.lease_seconds);
  store.settle_lead(stop_requested);
  if (!store.leads())
    throw IoError(
        fmt::format("{}: another attnscale ({}) is at work in this folder; wait for it: what is submitted is "
                    "kept by one at a time",
                    folder.string(), store.leader()));
  store.write_plan(spec, plan);
  make_folder(folder / "slurm");
  const auto queued = slurm_states(folder);
  std::vector<std::string> waiting;
  for (const auto& run : plan.runs) {
    if (store.is_done(run.id)) ++submission.done;
    else if (queued.contains(run.id)) ++submission.queued;
    else waiting.push_back(run.id);
  }
  auto submissions = read_submissions(folder);
  for (size_t begin = 0; begin < waiting.size(); begin += most) {
    const std::vector ids(waiting.begin() + static_cast<std::ptrdiff_t>(begin),
                          waiting.begin() + static_cast<std::ptrdiff_t>(std::min(begin + most, waiting.size())));
    const auto number = submissions.at("arrays").size();
    const auto list = folder / "slurm" / fmt::format("array-{}.json", number);
    const auto script = folder / "slurm" / fmt::format("array-{}.sh", number);
    store.write(list, Json(ids).dump(0) + "\n");
    store.write(script, batch_script(options, folder, list, ids.size(), plan.name));
    auto job = ask_slurm({"sbatch", "--parsable", script.string()});
    job = job.substr(0, job.find_first_of(";\n"));
    submissions["arrays"].push_back({{"job", job}, {"runs", ids}});
    store.write(folder / "slurm" / "submitted.json", submissions.dump(1) + "\n");
    submission.jobs.push_back(job);
    submission.runs += ids.size();
  }
  return submission;
}

namespace {

PlannedRun run_of_plan(const JsonDocument& document, const fs::path& folder, const std::string& id) {
  for (const auto& run : document.value.at("runs")) {
    if (run.at("id") != id) continue;
    std::vector<Problem> problems;
    auto resolved = ConfigResolver().resolve(run.at("config"), problems);
    document.refuse(problems);
    if (resolved->id != id)
      throw DataError(fmt::format(
          "run {} is {} here: the data of this node are others, or the program is another build", id, resolved->id));
    PlannedRun planned{std::move(*resolved), run.at("settings")};
    planned.competes_in = run.value("competes_in", "");
    return planned;
  }
  throw DataError(fmt::format("{}: has no run {}", (folder / "plan.json").string(), id));
}

}  // namespace

Json run_slurm_task(const fs::path& folder, const fs::path& list, int64_t index, double lease_seconds) {
  const auto ids = read_json(list).value;
  const auto id = ids.at(static_cast<size_t>(index)).get<std::string>();
  const auto plan = read_json(folder / "plan.json");
  const auto run = run_of_plan(plan, folder, id);
  const auto run_folder = folder / "runs" / id;
  make_folder(run_folder);
  // The task that had the run before may be on a node that is gone.
  const auto lease = wait_for_lease(run_folder, lease_seconds, stop_requested);
  if (!lease) return {{"id", id}, {"status", "interrupted"}, {"steps", 0}};
  RunControl control;
  control.folder = run_folder;
  control.stage = lease->stage();
  control.stop = [&] { return stop_requested() || lease->is_lost(); };
  const auto referee = referee_for(stopping_request(plan.value.value("stopping", Json()), run.competes_in, folder), id,
                                   run.train.steps, lease_seconds);
  control.referee = referee.get();
  try {
    return train_run(run.config(), control);
  } catch (const LeaseLost&) {
    throw;
  } catch (const IoError&) {
    throw;  // the disk's fault, not the run's
  } catch (const std::exception& error) {
    const auto row = failed_row(run, "failed", error.what());
    write_file_through(lease->stage(), run_folder / "result.json", row.dump(2) + "\n");
    return row;
  }
}

}  // namespace attnscale

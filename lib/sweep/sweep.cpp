#include "sweep/sweep.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include <poll.h>

#include <fmt/format.h>

#include "core/signals.h"
#include "sweep/progress.h"
#include "sweep/run_queue.h"
#include "sweep/shared_folder.h"
#include "sweep/stopping_ledger.h"
#include "sweep/store.h"
#include "sweep/worker.h"
#include "train/trainer.h"

namespace attnscale {
namespace {

double work_of(const PlannedRun& run) {
  return relative_work(run.training_flops(), run.train.steps, static_cast<double>(run.model().depth));
}

/// What a worker that died said last, for its run's message; empty if it said nothing.
std::string last_words(const std::filesystem::path& run_folder) {
  constexpr std::streamoff most = 200;
  std::ifstream log(run_folder / "worker.log", std::ios::binary | std::ios::ate);
  if (!log) return "";
  log.seekg(std::max<std::streamoff>(0, static_cast<std::streamoff>(log.tellg()) - most));
  std::string text{std::istreambuf_iterator<char>(log), {}};
  text.erase(text.find_last_not_of(" \n") + 1);
  text = text.substr(text.rfind('\n') + 1);
  for (char& c : text)
    if (c < 0x20 || c > 0x7e) c = '?';  // bytes of any kind, and the cut may have split a character
  return text.empty() ? "" : "; its worker.log ends with: " + text;
}

// After a request to stop, a worker ends its step and saves. One that the kernel has stopped will not; another gets
// time for a step much longer than any it has shown.
constexpr double stopped_grace = 3, busy_notice = 10;
double patience_with(const Worker& worker) { return std::max(120.0, 10 * worker.longest_silence()); }

class Supervisor {
 public:
  Supervisor(const Spec& spec, const Plan& plan, const SweepOptions& options)
      : options_(options),
        rule_(plan.rule()),
        store_(options.folder, plan, options.lease_seconds),
        waiting_(options.jobs, /*in_order=*/!rule_.is_null()) {  // who is stopped early depends on who came before
    store_.write_plan(spec, plan);
    say_what_the_folder_lacks();
    for (const auto& run : plan.runs) {
      by_id_[run.id] = &run;
      if (!store_.is_done(run.id)) waiting_.add(run, work_of(run));
    }
    const auto done = static_cast<int64_t>(plan.runs.size() - waiting_.size());
    if (done > 0) std::cerr << fmt::format("{} of {} runs are done already\n", done, plan.runs.size());
    std::cerr << other_builds_text(store_.rows(), plan.runs.size());
    if (store_.strangers() > 0)
      std::cerr << fmt::format("{} runs in this folder are not in this plan: kept, and left out of the results\n",
                               store_.strangers());
    view_ = std::make_unique<ProgressView>(static_cast<int64_t>(plan.runs.size()), done, waiting_.work());
  }

  SweepOutcome run() {
    hire();
    while (busy() || !elsewhere_.empty() || !waiting_.empty()) {
      wait();
      for (auto& worker : workers_) listen(*worker);
      look_elsewhere();
      dismiss_the_dead();
      hire();
      view_->tick();
      if ((stop_requested() || fatal_) && !stopping_) ask_all_to_stop();
      if (stopping_) hurry_the_silent();
    }
    workers_.clear();
    view_.reset();
    if (fatal_) throw IoError(fatal_message_ + "; what is done is kept, run the same command when there is room");
    SweepOutcome outcome;
    outcome.refused = refused_;
    if (!stopping_) {
      store_.settle_lead(stop_requested);
      store_.finish();
    }
    outcome.interrupted = stopping_ || store_.rows().size() < by_id_.size();
    outcome.leads = store_.leads();
    outcome.leader = store_.leader();
    for (const auto& [id, row] : store_.rows()) {
      const auto status = row.value("status", "");
      ++(status == "done"       ? outcome.done
         : status == "stopped"  ? outcome.stopped
         : status == "diverged" ? outcome.diverged
                                : outcome.failed);
      if (row.contains("flags") && !row["flags"].empty()) ++outcome.flagged;
    }
    return outcome;
  }

 private:
  /// Several processes may write here: a file system on which that cannot work is said at once.
  void say_what_the_folder_lacks() const {
    const auto report = look_at_folder(options_.folder);
    for (const auto& need : report.needs)
      if (!need.met)
        std::cerr << fmt::format("{} ({}): not so: {}: {}; do not let several processes work in it\n",
                                 options_.folder.string(), report.file_system, need.what, need.found);
  }

  /// As many as may work side by side, while there are runs that nobody does.
  void hire() {
    while (!waiting_.empty() && workers_.size() < static_cast<size_t>(std::max(1, options_.jobs))) {
      workers_.push_back(std::make_unique<Worker>(options_.program, options_.threads));
      give_work(*workers_.back());
    }
  }

  void give_work(Worker& worker) {
    worker.run_id.clear();
    while (!waiting_.empty()) {
      const PlannedRun& run = waiting_.take();
      const auto folder = store_.run_folder(run.id);
      const auto expired = std::exchange(expired_[run.id], 0);
      const bool held = look_at_lease(folder).held;  // before the result: a holder publishes it, then gives back
      if (settled_elsewhere(run)) continue;
      if (held && expired == 0) {
        wait_for(run);
        continue;
      }
      worker.run_id = run.id;
      view_->started(run.id, work_of(run));
      worker.start(folder, run.config().to_json(), options_.lease_seconds, expired,
                   stopping_request(rule_, run.competes_in, options_.folder));
      return;
    }
  }

  /// Whether another process has brought the run to an end.
  bool settled_elsewhere(const PlannedRun& run) {
    if (!store_.look_for(run.id)) return false;
    view_->started(run.id, work_of(run));
    view_->finished(run.id, store_.rows().at(run.id));
    return true;
  }

  void wait_for(const PlannedRun& run) {
    elsewhere_.emplace(&run, LeaseWatch(store_.run_folder(run.id), options_.lease_seconds));
  }

  /// Runs that others have: those that ended are accepted, those whose holder is gone are taken over.
  void look_elsewhere() {
    const auto now = std::chrono::steady_clock::now();
    if (now - looked_ < std::chrono::milliseconds(250)) return;
    looked_ = now;
    store_.try_to_lead();
    for (auto one = elsewhere_.begin(); one != elsewhere_.end();) {
      auto& [run, watch] = *one;
      const bool settled = settled_elsewhere(*run);
      const bool free = !settled && watch.is_free();
      if (free && watch.expired() != 0)
        view_->say(fmt::format("{}: {} has given no sign of life for {:.0f} s: taken over", run->id,
                               watch.state().holder, watch.state().seconds));
      if (free) {
        waiting_.add(*run, work_of(*run));
        expired_[run->id] = watch.expired();
      }
      one = settled || free ? elsewhere_.erase(one) : std::next(one);
    }
    for (auto& worker : workers_)
      if (worker->run_id.empty() && !worker->closed() && !stopping_) give_work(*worker);
  }

  void ask_all_to_stop() {
    stopping_ = true;
    stop_begin_ = std::chrono::steady_clock::now();
    waiting_.clear();
    elsewhere_.clear();
    for (auto& worker : workers_)
      if (!worker->run_id.empty()) worker->ask_to_stop();
  }

  void hurry_the_silent() {
    const double waited = std::chrono::duration<double>(std::chrono::steady_clock::now() - stop_begin_).count();
    for (auto& worker : workers_) {
      if (worker->run_id.empty()) continue;
      const auto who = fmt::format("worker {} (run {})", worker->process(), worker->run_id);
      const double silent = std::min(waited, worker->silent_seconds());
      const bool stopped = silent > stopped_grace && worker->is_stopped();
      if (stopped || silent > patience_with(*worker)) {
        view_->say(fmt::format(
            "{} {}: killed; its run goes on from its last checkpoint another time", who,
            stopped ? "is stopped and cannot answer" : fmt::format("has not answered for {:.0f} s", silent)));
        worker->kill();
        worker->run_id.clear();
      } else if (silent > busy_notice && announced_.insert(worker->run_id).second) {
        view_->say(fmt::format("waiting for {} to end its step and save", who));
      }
    }
  }

  bool busy() const {
    return std::any_of(workers_.begin(), workers_.end(), [](const auto& w) { return !w->run_id.empty(); });
  }

  void wait() {
    std::vector<pollfd> descriptors;
    for (const auto& worker : workers_) descriptors.push_back({worker->descriptor(), POLLIN, 0});
    ::poll(descriptors.data(), descriptors.size(), 200);
  }

  void listen(Worker& worker) {
    for (const auto& message : worker.read()) {
      if (worker.run_id.empty()) break;
      if (message.contains("lease")) worker.lease = message["lease"].get<int64_t>();
      else if (message.contains("progress")) view_->progressed(worker.run_id, message["progress"]);
      else if (message.contains("note"))
        view_->say(fmt::format("{}: {}", worker.run_id, message["note"].get<std::string>()));
      else if (message.contains("result")) accept(worker, message["result"]);
      else if (message.contains("error")) refuse(worker, message);
      else if (message.contains("busy") || message.contains("lost")) lose(worker, message);
    }
    if (worker.closed() && !worker.run_id.empty()) {
      const auto how = worker.end() + last_words(store_.run_folder(worker.run_id));
      if (stopping_) worker.run_id.clear();
      else if (how.find("(Killed)") != std::string::npos)
        finish(worker, failed_row(*by_id_.at(worker.run_id), "oom", "worker " + how + ", probably for lack of memory"));
      else finish(worker, failed_row(*by_id_.at(worker.run_id), "failed", "worker " + how));
    }
  }

  void accept(Worker& worker, const Json& row) {
    if (row.value("id", "") != worker.run_id)
      finish(worker, failed_row(*by_id_.at(worker.run_id), "failed",
                                "the data changed while the sweep ran: the worker trained run " + row.value("id", "")));
    else if (row.value("status", "") == "interrupted") worker.run_id.clear();
    else finish(worker, row);
  }

  void refuse(Worker& worker, const Json& message) {
    const auto text = message["error"].get<std::string>();
    if (message.value("code", 0) == static_cast<int>(ExitCode::io)) {
      fatal_ = true;
      fatal_message_ = text;
      worker.run_id.clear();
    } else {
      if (message.value("code", 0) == static_cast<int>(ExitCode::bad_input)) ++refused_;
      finish(worker, failed_row(*by_id_.at(worker.run_id), "failed", text));
    }
  }

  /// The run is another process's.
  void lose(Worker& worker, const Json& message) {
    if (message.contains("lost")) view_->say(message["lost"].get<std::string>());
    if (!stopping_) wait_for(*by_id_.at(worker.run_id));
    view_->left(worker.run_id);
    worker.run_id.clear();
    if (!worker.closed()) give_work(worker);
  }

  void finish(Worker& worker, const Json& row) {
    if (store_.record(row, worker.lease)) view_->finished(worker.run_id, store_.rows().at(worker.run_id));
    else {
      if (!stopping_) wait_for(*by_id_.at(worker.run_id));
      view_->left(worker.run_id);
    }
    worker.run_id.clear();
    if (!worker.closed()) give_work(worker);
  }

  void dismiss_the_dead() {
    std::erase_if(workers_, [](const auto& w) { return w->closed() && w->run_id.empty(); });
  }

  const SweepOptions& options_;
  Json rule_;  ///< for early stopping; null without
  Store store_;
  std::map<std::string, const PlannedRun*> by_id_;
  RunQueue<PlannedRun> waiting_;
  std::map<const PlannedRun*, LeaseWatch> elsewhere_;  ///< runs that other processes have
  std::map<std::string, int64_t> expired_;             ///< by id: the lease that is to be taken over
  std::chrono::steady_clock::time_point looked_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<ProgressView> view_;
  bool stopping_ = false, fatal_ = false;
  std::chrono::steady_clock::time_point stop_begin_;
  std::set<std::string> announced_;  ///< runs whose slow end was said
  int64_t refused_ = 0;
  std::string fatal_message_;
};

}  // namespace

Json failed_row(const PlannedRun& run, const std::string& status, const std::string& message) {
  return {{"schema", "attnscale.result/1"},
          {"id", run.id},
          {"status", status},
          {"message", message},
          {"params", run.cost.parameters.total},
          {"parameters", run.cost.parameters.to_json()},
          {"tokens", static_cast<int64_t>(run.tokens())},
          {"flops", run.training_flops()},
          {"seed", run.train.seed},
          {"config", run.config().to_json()}};
}

ExitCode SweepOutcome::code() const {
  if (interrupted) return ExitCode::interrupted;
  if (refused > 0) return ExitCode::bad_input;
  return diverged + failed > 0 ? ExitCode::run_failed : ExitCode::done;
}

SweepOutcome run_sweep(const Spec& spec, const Plan& plan, const SweepOptions& options) {
  return Supervisor(spec, plan, options).run();
}

namespace {

/// The only run has ended, so that a process that leads here is about to end: its table is this one's then.
void finish_table(Store& store) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  for (store.settle_lead(stop_requested); !store.leads() && !stop_requested(); store.settle_lead(stop_requested)) {
    if (std::chrono::steady_clock::now() > deadline) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  store.finish();
}

}  // namespace

Json run_single(const Spec& spec, const Plan& plan, const std::filesystem::path& folder) {
  const PlannedRun& run = plan.runs.front();
  Store store(folder, plan);
  store.write_plan(spec, plan);
  if (store.is_done(run.id)) {
    std::cerr << fmt::format("{}: done already\n", run.id) << other_builds_text(store.rows(), 1);
    return store.rows().at(run.id);
  }
  const auto run_folder = store.run_folder(run.id);
  make_folder(run_folder);
  ProgressView view(1, 0, work_of(run));
  view.started(run.id, work_of(run));
  RunControl control;
  auto lease = wait_for_lease(run_folder, SweepOptions().lease_seconds, stop_requested, [&](const LeaseState& state) {
    view.say(fmt::format("{}: {} has this run; waiting for its end, or {:.0f} s without a sign of life", run.id,
                         state.holder, state.seconds));
  });
  if (!lease) return {{"id", run.id}, {"status", "interrupted"}, {"steps", 0}};
  if (store.look_for(run.id)) {  // the one that had it has ended it
    view.finished(run.id, store.rows().at(run.id));
    finish_table(store);
    return store.rows().at(run.id);
  }
  control.folder = run_folder;
  control.stage = lease->stage();
  control.stop = stop_requested;
  control.on_progress = [&](const Progress& progress) {
    Json fields = {{"step", progress.step}, {"steps", progress.steps}};
    if (std::isfinite(progress.loss)) fields["loss"] = progress.loss;
    view.progressed(run.id, fields);
    view.tick();
  };
  control.on_note = [&](const std::string& text) { view.say(text); };
  Json row = train_run(run.config(), control);
  lease.reset();
  if (row.value("status", "") != "interrupted") {
    store.record(row);
    view.finished(run.id, row);
    finish_table(store);
  }
  return row;
}

}  // namespace attnscale

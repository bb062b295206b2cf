#include "sweep/sweep.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <set>

#include <poll.h>

#include <fmt/format.h>

#include "core/signals.h"
#include "sweep/progress.h"
#include "sweep/store.h"
#include "sweep/worker.h"
#include "train/trainer.h"

namespace attnscale {
namespace {

/// Relative time of a run for the estimate of what is left: its FLOPs plus a cost per step and layer
/// that small models pay for dispatch.
double work_of(const PlannedRun& run) {
  return run.training_flops() + 2e7 * static_cast<double>(run.config.train.steps * run.config.model.depth);
}

Json failed_row(const PlannedRun& run, const std::string& status, const std::string& message) {
  return {{"schema", "attnscale.result/1"},
          {"id", run.id},
          {"status", status},
          {"message", message},
          {"params", run.cost.parameters.total},
          {"parameters", run.cost.parameters.to_json()},
          {"tokens", static_cast<int64_t>(run.tokens())},
          {"flops", run.training_flops()},
          {"seed", run.config.train.seed},
          {"config", run.config.to_json()}};
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
      : options_(options), store_(options.folder, plan) {
    store_.write_plan(spec, plan);
    double work = 0;
    for (const auto& run : plan.runs) {
      by_id_[run.id] = &run;
      if (store_.is_done(run.id)) continue;
      waiting_.push_back(&run);
      work += work_of(run);
    }
    const auto done = static_cast<int64_t>(plan.runs.size() - waiting_.size());
    if (done > 0) std::cerr << fmt::format("{} of {} runs are done already\n", done, plan.runs.size());
    std::cerr << other_builds_text(store_.rows(), plan.runs.size());
    if (store_.strangers() > 0)
      std::cerr << fmt::format("{} runs in this folder are not in this plan: kept, and left out of the results\n",
                               store_.strangers());
    view_ = std::make_unique<ProgressView>(static_cast<int64_t>(plan.runs.size()), done, work);
  }

  SweepOutcome run() {
    const auto jobs = std::min<size_t>(static_cast<size_t>(std::max(1, options_.jobs)), waiting_.size());
    for (size_t i = 0; i < jobs; ++i) hire();
    while (busy()) {
      wait();
      for (auto& worker : workers_) listen(*worker);
      replace_the_dead();
      view_->tick();
      if ((stop_requested() || fatal_) && !stopping_) ask_all_to_stop();
      if (stopping_) hurry_the_silent();
    }
    workers_.clear();
    view_.reset();
    if (fatal_) throw IoError(fatal_message_ + "; what is done is kept, run the same command when there is room");
    SweepOutcome outcome;
    outcome.interrupted = stopping_;
    outcome.refused = refused_;
    if (!stopping_) store_.finish();
    for (const auto& [id, row] : store_.rows()) {
      const auto status = row.value("status", "");
      ++(status == "done" ? outcome.done : status == "diverged" ? outcome.diverged : outcome.failed);
      if (row.contains("flags") && !row["flags"].empty()) ++outcome.flagged;
    }
    return outcome;
  }

 private:
  void hire() {
    workers_.push_back(std::make_unique<Worker>(options_.program, options_.threads));
    give_work(*workers_.back());
  }

  void give_work(Worker& worker) {
    worker.run_id.clear();
    if (waiting_.empty()) return;
    const PlannedRun& run = *waiting_.front();
    waiting_.pop_front();
    worker.run_id = run.id;
    view_->started(run.id, work_of(run));
    worker.start(store_.run_folder(run.id), run.config.to_json());
  }

  void ask_all_to_stop() {
    stopping_ = true;
    stop_begin_ = std::chrono::steady_clock::now();
    waiting_.clear();
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
      if (message.contains("progress")) view_->progressed(worker.run_id, message["progress"]);
      else if (message.contains("note"))
        view_->say(fmt::format("{}: {}", worker.run_id, message["note"].get<std::string>()));
      else if (message.contains("result")) accept(worker, message["result"]);
      else if (message.contains("error")) refuse(worker, message);
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

  void finish(Worker& worker, const Json& row) {
    store_.record(row);
    view_->finished(worker.run_id, row);
    worker.run_id.clear();
    if (!worker.closed()) give_work(worker);
  }

  void replace_the_dead() {
    const auto dead = std::erase_if(workers_, [](const auto& w) { return w->closed() && w->run_id.empty(); });
    for (size_t i = 0; i < dead && !waiting_.empty(); ++i) hire();
  }

  const SweepOptions& options_;
  Store store_;
  std::map<std::string, const PlannedRun*> by_id_;
  std::deque<const PlannedRun*> waiting_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<ProgressView> view_;
  bool stopping_ = false, fatal_ = false;
  std::chrono::steady_clock::time_point stop_begin_;
  std::set<std::string> announced_;  ///< runs whose slow end was said
  int64_t refused_ = 0;
  std::string fatal_message_;
};

}  // namespace

ExitCode SweepOutcome::code() const {
  if (interrupted) return ExitCode::interrupted;
  if (refused > 0) return ExitCode::bad_input;
  return diverged + failed > 0 ? ExitCode::run_failed : ExitCode::done;
}

SweepOutcome run_sweep(const Spec& spec, const Plan& plan, const SweepOptions& options) {
  return Supervisor(spec, plan, options).run();
}

Json run_single(const Spec& spec, const Plan& plan, const std::filesystem::path& folder) {
  const PlannedRun& run = plan.runs.front();
  Store store(folder, plan);
  store.write_plan(spec, plan);
  if (store.is_done(run.id)) {
    std::cerr << fmt::format("{}: done already\n", run.id) << other_builds_text(store.rows(), 1);
    return store.rows().at(run.id);
  }
  make_folder(store.run_folder(run.id));
  ProgressView view(1, 0, work_of(run));
  view.started(run.id, work_of(run));
  RunControl control;
  control.folder = store.run_folder(run.id);
  control.stop = stop_requested;
  control.on_progress = [&](const Progress& progress) {
    Json fields = {{"step", progress.step}, {"steps", progress.steps}};
    if (std::isfinite(progress.loss)) fields["loss"] = progress.loss;
    view.progressed(run.id, fields);
    view.tick();
  };
  control.on_note = [&](const std::string& text) { view.say(text); };
  Json row = train_run(run.config, control);
  if (row.value("status", "") != "interrupted") {
    store.record(row);
    view.finished(run.id, row);
  }
  return row;
}

}  // namespace attnscale

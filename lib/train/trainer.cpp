#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <new>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/files.h"
#include "core/hash.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/provenance.h"
#include "train/run_log.h"
#include "train/run_result.h"
#include "train/stepper.h"

namespace attnscale {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto progress_interval = std::chrono::milliseconds(250);

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// JSON paths at which two configurations differ, with both values.
void list_differences(const Json& stored, const Json& asked, const std::string& path, std::vector<std::string>& into) {
  if (!stored.is_object() || !asked.is_object()) {
    if (stored != asked) into.push_back(fmt::format("{}: {}, asked for {}", path, stored.dump(), asked.dump()));
    return;
  }
  for (const auto& [key, value] : asked.items())
    list_differences(stored.contains(key) ? stored[key] : Json(), value, join_path(path, key), into);
  for (const auto& [key, value] : stored.items())
    if (!asked.contains(key)) list_differences(value, Json(), join_path(path, key), into);
}

/// One run from its first or next step to its end.
class Run {
 public:
  Run(const RunConfig& config, const RunControl& control)
      : config_(config),
        control_(control),
        source_(config.open_source()),
        id_(config.id()),
        cost_(cost_of(config)),
        model_(config.model, config.attention, config.data.context, stream_seed(seed(), "init")),
        stepper_(model_, config.train),
        validation_(validation_set(config)),
        log_(control.folder / "log.jsonl", restore()) {}

  Json train() {
    const auto& options = config_.train;
    write_config();
    while (step_ < options.steps) {
      if (!advance()) return finish("diverged");
      const bool last = step_ == options.steps;
      if ((last || step_ % options.eval_every == 0) && !evaluate()) return finish("diverged");
      if (last) break;
      if (control_.stop && control_.stop()) {
        if (saved_step_ != step_) save();
        return {{"id", id_}, {"status", "interrupted"}, {"steps", step_}};
      }
      if (options.checkpoint_every > 0 && step_ % options.checkpoint_every == 0) save();
    }
    if (saved_step_ != step_) save();
    keep_only_checkpoint(checkpoints(), step_);
    return finish("done");
  }

 private:
  uint64_t seed() const { return static_cast<uint64_t>(config_.train.seed); }
  TensorMap average_state() { return stepper_.average() ? stepper_.average()->state() : TensorMap(); }
  std::filesystem::path checkpoints() const { return control_.folder / "checkpoint"; }

  /// Only now, when no checkpoint here is of another run.
  void write_config() const {
    Json file = {{"schema", "attnscale.config/1"}};
    file.update(config_.to_json());
    write_file_atomically(control_.folder / "config.json", file.dump(2) + "\n");
  }

  /// Goes back to the newest good checkpoint. @return the log's lines at that point
  int64_t restore() {
    const auto checkpoint = read_checkpoint(checkpoints(), count_lines(control_.folder / "log.jsonl"));
    if (!checkpoint) return 0;
    const auto where = fmt::format("{}: step {}", checkpoints().string(), checkpoint->step);
    check_same_tensors(where, checkpoint->model, tensors_of(model_));
    check_same_tensors(where, checkpoint->optimizer, stepper_.optimizer().state());
    check_same_tensors(where, checkpoint->average, average_state());
    if (checkpoint->config_id != id_) {
      std::vector<std::string> differences;
      list_differences(checkpoint->state.value("config", Json::object()), config_.to_json(), "", differences);
      if (differences.empty()) differences.push_back("the data's fingerprint");
      throw DataError(fmt::format("{}: is of another run ({}, not {}); nothing was loaded\n  {}", where,
                                  checkpoint->config_id, id_, fmt::join(differences, "\n  ")));
    }
    copy_tensors(checkpoint->model, tensors_of(model_));
    stepper_.optimizer().restore(checkpoint->optimizer, checkpoint->step);
    if (stepper_.average()) stepper_.average()->restore(checkpoint->average, checkpoint->step);
    step_ = saved_step_ = checkpoint->step;
    earlier_seconds_ = checkpoint->state.at("seconds").get<double>();
    started_ = checkpoint->state.at("started").get<std::string>();
    notes_ = checkpoint->state.value("notes", notes_);
    for (const auto& reason : checkpoint->passed_over)
      note(fmt::format("{}; going on from the checkpoint of step {} instead", reason, checkpoint->step));
    return checkpoint->log_lines;
  }

  void note(const std::string& text) {
    notes_.push_back(text);
    if (control_.on_note) control_.on_note(text);
    else fmt::print(stderr, "{}\n", text);
  }

  /// One step. @return false if its numbers were not finite
  bool advance() {
    const auto batch = source_->batch(Split::train, stream_seed(seed(), "data"), step_, config_.train.batch_size,
                                      config_.data.context);
    const auto result = stepper_.step(questions_of(batch, config_.model), step_ + 1);
    if (!result.finite) {
      diverged_at_ = step_ + 1;
      return false;
    }
    log_.add_step(++step_, result);
    report(result.loss);
    return true;
  }

  /// Of the weights' average, if one is kept. @return false if its numbers were not finite
  bool evaluate() {
    if (stepper_.average()) stepper_.average()->exchange();
    const auto evaluation = validation_->evaluate(model_, config_.train.dtype);
    if (stepper_.average()) stepper_.average()->exchange();
    if (!std::isfinite(evaluation.loss)) {
      diverged_at_ = step_;
      return false;
    }
    const int64_t tokens = step_ * config_.train.batch_size * config_.data.context;
    log_.add_evaluation(step_, evaluation, tokens, cost_.flops_per_token.executed * static_cast<double>(tokens),
                        /*in_detail=*/step_ == config_.train.steps);
    return true;
  }

  void save() {
    log_.sync();  // a checkpoint may not know lines that the disk does not have
    write_checkpoint(checkpoints(),
                     {.step = step_,
                      .log_lines = log_.lines(),
                      .config_id = id_,
                      .model = tensors_of(model_),
                      .optimizer = stepper_.optimizer().state(),
                      .average = average_state(),
                      .state = {{"schema", "attnscale.state/1"},
                                {"config", config_.to_json()},
                                {"seconds", earlier_seconds_ + seconds_since(begin_)},
                                {"started", started_},
                                {"notes", notes_}}},
                     saved_step_);
    saved_step_ = step_;
  }

  void report(double loss) {
    ++steps_here_;
    const bool due = Clock::now() - last_report_ >= progress_interval || step_ == config_.train.steps;
    if (!control_.on_progress || !due) return;
    last_report_ = Clock::now();
    control_.on_progress({.step = step_,
                          .steps = config_.train.steps,
                          .loss = loss,
                          .steps_per_second = static_cast<double>(steps_here_) / seconds_since(begin_)});
  }

  Json finish(const std::string& status) {
    log_.sync();
    return result_row(config_, cost_,
                      {.status = status,
                       .steps = step_,
                       .evaluations = log_.evaluations(),
                       .diverged_at = diverged_at_,
                       .message = "",
                       .seconds = earlier_seconds_ + seconds_since(begin_),
                       .started = started_,
                       .finished = utc_now(),
                       .notes = notes_});
  }

  const RunConfig& config_;
  const RunControl& control_;
  // Before the log: restoring, which opens it at the right line, sets them.
  int64_t step_ = 0, saved_step_ = -1, steps_here_ = 0;
  double earlier_seconds_ = 0;
  std::string started_ = utc_now();
  std::vector<std::string> notes_;
  std::optional<int64_t> diverged_at_;
  Clock::time_point begin_ = Clock::now(), last_report_ = Clock::now();
  std::shared_ptr<const Source> source_;
  std::string id_;
  ModelCost cost_;
  Transformer model_;
  Stepper stepper_;
  std::shared_ptr<const ValidationSet> validation_;
  RunLog log_;
};

/// The CPU's allocator has no error class of its own, only its message.
bool is_out_of_memory(const c10::Error& error) {
  const std::string message = error.what();
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         message.find("can't allocate memory") != std::string::npos ||
         message.find("not enough memory") != std::string::npos;
}

Json out_of_memory(const RunConfig& config, const std::string& message) {
  const auto cost = cost_of(config);
  RunOutcome outcome;
  outcome.status = "oom";
  outcome.message = fmt::format("{}; the plan's estimate was {:.2f} GB", message.substr(0, message.find('\n')),
                                training_bytes(config, cost) / 1e9);
  outcome.started = outcome.finished = utc_now();
  return result_row(config, cost, outcome);
}

Json train_or_run_out(const RunConfig& config, const RunControl& control) {
  try {
    return Run(config, control).train();
  } catch (const std::bad_alloc& error) {
    return out_of_memory(config, error.what());
  } catch (const c10::Error& error) {
    if (!is_out_of_memory(error)) throw;
    return out_of_memory(config, error.what_without_backtrace());
  }
}

/// The result of an earlier call, if that decided the run: out of memory may be over by now.
std::optional<Json> earlier_result(const RunConfig& config, const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return std::nullopt;
  auto row = read_row(file);
  if (row["id"] != config.id() || !decides(row)) return std::nullopt;
  return row;
}

}  // namespace

Json train_run(const RunConfig& config, const RunControl& control) {
  make_folder(control.folder);
  if (auto row = earlier_result(config, control.folder / "result.json")) return *row;
  const auto row = train_or_run_out(config, control);
  if (row["status"] != "interrupted") write_file_atomically(control.folder / "result.json", row.dump(2) + "\n");
  return row;
}

}  // namespace attnscale

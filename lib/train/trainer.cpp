#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <new>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/files.h"
#include "core/hash.h"
#include "core/json_paths.h"
#include "core/lease.h"
#include "tensor/kernels/kernels.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/evaluate_elsewhere.h"
#include "train/provenance.h"
#include "train/ramp.h"
#include "train/run_kernels.h"
#include "train/run_log.h"
#include "train/run_result.h"
#include "train/stepper.h"

namespace attnscale {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto progress_interval = std::chrono::milliseconds(250);

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

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
        log_(control.folder / "log.jsonl", restore(), control.stage) {}

  Json train() {
    const auto& options = config_.train;
    write_config();
    if (saved_step_ < 0) save_for_roll_back();
    if (is_stopped_early()) return finish_early();  // it was before, and the result was not written any more
    while (step_ < options.steps) {
      if (!advance() || (evaluation_is_due() && !evaluate())) {
        if (!roll_back()) return finish("diverged");
        continue;
      }
      if (is_stopped_early()) return finish_early();
      const bool last = step_ == options.steps;
      if (last) break;
      if (options.checkpoint_every > 0 && step_ % options.checkpoint_every == 0) {
        save_for_roll_back();
        save();
      }
      if (control_.stop && control_.stop()) {
        if (saved_step_ != step_) save();
        return {{"id", id_}, {"status", "interrupted"}, {"steps", step_}};
      }
    }
    if (saved_step_ != step_) save();
    keep_only_checkpoint(checkpoints(), step_, control_.stage);
    return finish("done");
  }

 private:
  bool evaluation_is_due() const { return step_ == config_.train.steps || step_ % config_.train.eval_every == 0; }

  bool is_stopped_early() {
    if (!control_.referee || step_ == 0 || !evaluation_is_due() || !control_.referee->looks_at(step_)) return false;
    stopped_ = control_.referee->decide(step_, log_.evaluations());
    return !stopped_.is_null();
  }

  Json finish_early() {
    if (saved_step_ != step_) save();
    keep_only_checkpoint(checkpoints(), step_, control_.stage);
    return finish("stopped");
  }

  uint64_t seed() const { return static_cast<uint64_t>(config_.train.seed); }
  std::filesystem::path checkpoints() const { return control_.folder / "checkpoint"; }
  /// Apart from the checkpoints, to which an interruption adds: a run that was interrupted goes back as far as another.
  std::filesystem::path places_to_go_back_to() const { return control_.folder / "roll_back"; }

  /// Only now, when no checkpoint here is of another run.
  void write_config() const {
    Json file = {{"schema", "attnscale.config/1"}};
    file.update(config_.to_json());
    write_file_through(control_.stage, control_.folder / "config.json", file.dump(2) + "\n");
  }

  bool scaled() const { return config_.train.dtype == "float16"; }

  /// Takes over weights, moments and position, but nothing of the history.
  void take_over(const Checkpoint& checkpoint) {
    copy_tensors(checkpoint.model, tensors_of(model_));
    const auto updates = checkpoint.state.value("updates", checkpoint.step);
    stepper_.optimizer().restore(checkpoint.optimizer, updates);
    if (stepper_.average()) stepper_.average()->restore(checkpoint.average, updates);
    if (scaled()) {
      const auto& scale = checkpoint.state.at("loss_scale");
      stepper_.loss_scale().restore(scale.at("value").get<double>(), scale.at("steps_since_change").get<int64_t>());
    }
    skipped_steps_ = checkpoint.state.value("skipped_steps", int64_t{0});
    step_ = saved_step_ = checkpoint.step;
  }

  /// Goes back to the newest good checkpoint. @return the log's lines at that point
  int64_t restore() {
    const auto checkpoint = read_checkpoint(checkpoints(), count_lines(control_.folder / "log.jsonl"));
    if (!checkpoint) return 0;
    const auto where = fmt::format("{}: step {}", checkpoints().string(), checkpoint->step);
    check_same_tensors(where, checkpoint->model, tensors_of(model_));
    check_same_tensors(where, checkpoint->optimizer, stepper_.optimizer().state());
    check_same_tensors(where, checkpoint->average, stepper_.evaluated_weights());
    if (checkpoint->config_id != id_) {
      std::vector<std::string> differences;
      const auto leaves = differing_leaves(checkpoint->state.value("config", Json::object()), config_.to_json());
      for (const auto& [path, pair] : leaves.items())
        differences.push_back(fmt::format("{}: {}, asked for {}", path, pair[0].dump(), pair[1].dump()));
      if (differences.empty()) differences.push_back("the data's fingerprint");
      throw DataError(fmt::format("{}: is of another run ({}, not {}); nothing was loaded\n  {}", where,
                                  checkpoint->config_id, id_, fmt::join(differences, "\n  ")));
    }
    take_over(*checkpoint);
    skips_ = checkpoint->state.value("skips", int64_t{0});
    set_roll_backs(checkpoint->state.value("roll_backs", int64_t{0}));
    earlier_seconds_ = checkpoint->state.at("seconds").get<double>();
    started_ = checkpoint->state.at("started").get<std::string>();
    notes_ = checkpoint->state.value("notes", notes_);
    go_on_with_kernels(checkpoint->state, where);
    if (const auto began = checkpoint->state.value("commit", build_commit()); began != build_commit())
      note(fmt::format(
          "went on at step {} with the program of commit {} from one of {}: the bits may not be those of one "
          "program",
          checkpoint->step, build_commit(), began));
    for (const auto& reason : checkpoint->passed_over)
      note(fmt::format("{}; going on from the checkpoint of step {} instead", reason, checkpoint->step));
    return checkpoint->log_lines;
  }

  /// @throws DataError where the kernels here cannot
  void go_on_with_kernels(const Json& state, const std::string& where) {
    const auto here = run_kernels(config_.train.dtype);
    const auto how = going_on(read_run_kernels(state, here), here, config_.train.dtype, where, control_.folder);
    if (how.without) set_kernels(false);
    if (!how.note.empty()) note(how.note);
  }

  void note(const std::string& text) {
    notes_.push_back(text);
    if (control_.on_note) control_.on_note(text);
    else fmt::print(stderr, "{}\n", text);
  }

  void set_roll_backs(int64_t count) {
    roll_backs_ = count;
    stepper_.set_rate_factor(std::pow(config_.train.roll_back_factor, static_cast<double>(count)));
  }

  /// After a divergence, if that is wanted: back to the last checkpoint that was due, at a lower rate.
  /// @return false if the run has to end
  bool roll_back() {
    const auto& options = config_.train;
    if (options.on_divergence != "roll_back" || roll_backs_ >= *options.most_recoveries) return false;
    log_.sync();
    const auto start_anew = fmt::format("remove {} to do this run anew", control_.folder.string());
    const auto checkpoint = read_checkpoint(places_to_go_back_to(), log_.lines(), start_anew);
    if (!checkpoint)
      throw DataError(
          fmt::format("{}: the checkpoint to go back to is missing; {}", places_to_go_back_to().string(), start_anew));
    take_over(*checkpoint);
    set_roll_backs(roll_backs_ + 1);
    note(fmt::format("step {}: {}; going on from step {} with {:.3g} of the learning rate", *diverged_at_, cause_,
                     step_, std::pow(options.roll_back_factor, static_cast<double>(roll_backs_))));
    diverged_at_.reset();
    // In place of all newer ones, whose lines of the log go.
    write_checkpoint(checkpoints(), checkpoint_now(checkpoint->log_lines), std::nullopt, control_.stage);
    log_.truncate_to(checkpoint->log_lines);
    return true;
  }

  /// One step. @return false if its numbers were not finite and that ends the run
  bool advance() {
    const auto [batch, questions] = step_data(*source_, config_, step_ + 1);
    const auto every = config_.train.watch_every;
    std::optional<StepLook> watched;
    if (every > 0 && (step_ == 0 || (step_ + 1) % every == 0)) watched.emplace();
    const auto result = stepper_.step(questions, step_ + 1, watched ? &*watched : nullptr);
    const bool skip = config_.train.on_divergence == "skip" && skips_ < config_.train.most_recoveries.value_or(0);
    if (!result.finite && !skip) {
      diverged_at_ = step_ + 1;
      cause_ = result.cause;
      return false;
    }
    if (!result.finite) {
      ++skips_;
      note(fmt::format("step {}: {}; left out", step_ + 1, result.cause));
    }
    if (result.overflow || !result.finite) ++skipped_steps_;
    log_.add_step(++step_, result, scaled());
    if (watched && result.finite && !result.overflow) look_at(watched->look(), questions, result.learning_rate);
    report(result.loss);
    return true;
  }

  /// Adds a look at the step that was just taken to the log. @param look  what the step itself showed
  void look_at(Look look, const Questions& questions, double learning_rate) {
    look_at_activations(model_, config_.attention, questions.inputs.to(at::Device(config_.train.device)),
                        stream_seed(seed(), "watch", static_cast<uint64_t>(step_)), look);
    if (const auto row = to_row(look, step_, learning_rate)) log_.add_watch(*row);
  }

  /// Of the weights' average, if one is kept. @return false if its numbers were not finite
  bool evaluate() {
    Json more = Json::object();
    const auto evaluation = [&] {
      const OtherWeights averaged(model_, stepper_.evaluated_weights());
      if (step_ == config_.train.steps) more = evaluate_elsewhere(config_, model_);
      return validation_->evaluate(model_, config_.train.dtype);
    }();
    if (!std::isfinite(evaluation.loss)) {
      diverged_at_ = step_;
      cause_ = "the validation loss is not finite";
      return false;
    }
    const auto work = work_of(config_, cost_, step_);
    log_.add_evaluation(step_, evaluation, work.tokens, work.flops.executed,
                        /*in_detail=*/step_ == config_.train.steps, more);
    return true;
  }

  Checkpoint checkpoint_now(int64_t log_lines) {
    const auto kernels = run_kernels(config_.train.dtype);
    return {.step = step_,
            .log_lines = log_lines,
            .config_id = id_,
            .model = tensors_of(model_),
            .optimizer = stepper_.optimizer().state(),
            .average = stepper_.evaluated_weights(),
            .state = {{"schema", "attnscale.state/1"},
                      {"config", config_.to_json()},
                      {"seconds", earlier_seconds_ + seconds_since(begin_)},
                      {"started", started_},
                      {"notes", notes_},
                      {"commit", build_commit()},
                      {"kernels", kernels.name},
                      {"kernel_products", kernels.products.value()},
                      {"updates", stepper_.optimizer().steps_taken()},
                      {"skipped_steps", skipped_steps_},
                      {"skips", skips_},
                      {"roll_backs", roll_backs_},
                      {"loss_scale",
                       {{"value", stepper_.loss_scale().value()},
                        {"steps_since_change", stepper_.loss_scale().steps_since_change()}}}}};
  }

  void save() {
    log_.sync();  // a checkpoint may not know lines that the disk does not have
    write_checkpoint(checkpoints(), checkpoint_now(log_.lines()),
                     saved_step_ < 0 ? std::nullopt : std::optional(saved_step_), control_.stage);
    saved_step_ = step_;
  }

  /// Before the checkpoint of the same step, so that there never is one without the other.
  void save_for_roll_back() {
    if (config_.train.on_divergence != "roll_back") return;
    log_.sync();
    write_checkpoint(places_to_go_back_to(), checkpoint_now(log_.lines()), std::nullopt, control_.stage);
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
    // A run that was stopped early may go on another time.
    if (status != "stopped" && std::filesystem::exists(places_to_go_back_to()))
      remove_through(control_.stage, places_to_go_back_to());
    return result_row(
        config_, cost_,
        {.status = status,
         .steps = step_,
         .evaluations = log_.evaluations(),
         .looks = log_.looks(),
         .diverged_at = diverged_at_,
         .message = status == "diverged" ? cause_ : "",
         .stopped = stopped_,
         .last_checkpoint =
             status == "diverged" && saved_step_ >= 0 ? fmt::format("checkpoint/step-{}", saved_step_) : "",
         .skipped_steps = skipped_steps_,
         .roll_backs = roll_backs_,
         .seconds = earlier_seconds_ + seconds_since(begin_),
         .started = started_,
         .finished = utc_now(),
         .notes = notes_});
  }

  const RunConfig& config_;
  const RunControl& control_;
  const KernelsAsBefore kernels_;  ///< a process trains run after run
  // Before the log: restoring, which opens it at the right line, sets them.
  int64_t step_ = 0, saved_step_ = -1, steps_here_ = 0;
  int64_t skipped_steps_ = 0, skips_ = 0, roll_backs_ = 0;
  std::string cause_;
  double earlier_seconds_ = 0;
  std::string started_ = utc_now();
  std::vector<std::string> notes_;
  std::optional<int64_t> diverged_at_;
  Json stopped_;  ///< what the referee said
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
                                training_bytes(config.train, cost) / 1e9);
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

/// The result of an earlier call, if that decided the run: out of memory may be over by now, a rule have changed.
std::optional<Json> earlier_result(const RunConfig& config, const RunControl& control) {
  const auto file = control.folder / "result.json";
  if (!std::filesystem::exists(file)) return std::nullopt;
  auto row = read_row(file);
  if (row["id"] != config.id() || !decides(row, control.referee ? control.referee->rule() : Json()))
    return std::nullopt;
  return row;
}

}  // namespace

Json train_run(const RunConfig& config, const RunControl& control) {
  make_folder(control.folder);
  if (auto row = earlier_result(config, control)) return *row;
  Json row;
  try {
    row = train_or_run_out(config, control);
  } catch (const std::exception&) {
    check_stage(control.stage);  // whatever it met in a folder that another has by now
    throw;
  }
  if (row["status"] == "interrupted") return row;
  if (const auto log = control.folder / "log.jsonl"; std::filesystem::exists(log))
    row["provenance"]["log_sha256"] = sha256_of_file(log);
  seal(row);
  write_file_through(control.stage, control.folder / "result.json", row.dump(2) + "\n");
  return row;
}

}  // namespace attnscale

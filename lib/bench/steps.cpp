#include "bench/steps.h"

#include "core/hash.h"

namespace attnscale {

Steps::Steps(const RunConfig& config)
    : config_(config),
      source_(config.open_source()),
      seed_(static_cast<uint64_t>(config.train.seed)),
      model_(config.model, config.attention, config.data.context, stream_seed(seed_, "init")),
      stepper_(model_, config.train) {}

StepResult Steps::next() {
  batch_ = source_->batch(Split::train, seed_, step_, config_.train.batch_size, config_.data.context);
  ++step_;
  return stepper_.step(training_questions(batch_, config_.model, seed_, step_), step_);
}

}  // namespace attnscale

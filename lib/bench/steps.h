#pragma once

#include <memory>

#include "model/transformer.h"
#include "train/run_config.h"
#include "train/stepper.h"

namespace attnscale {

/// A run whose steps are made one at a time, for a clock or beside others.
class Steps {
 public:
  explicit Steps(const RunConfig& config);

  /// The run's next update, data and all.
  StepResult next();

  /// What the latest step learnt from.
  const Batch& batch() const { return batch_; }
  Transformer& model() { return model_; }

 private:
  RunConfig config_;
  std::shared_ptr<const Source> source_;
  uint64_t seed_;
  Transformer model_;
  Stepper stepper_;
  Batch batch_;
  int64_t step_ = 0;
};

}  // namespace attnscale

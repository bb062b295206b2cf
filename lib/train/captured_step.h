#pragma once

#include <functional>
#include <memory>

#include "train/device_graph.h"
#include "train/optimizer.h"
#include "train/questions.h"

namespace attnscale {

/// What a captured step brings to the host.
struct StepNumbers {
  double loss = 0;           ///< see StepResult
  double gradient_norm = 0;  ///< likewise
};

/// A whole training step as one DeviceGraph: passes, norm, clipping and update, without a number that the host has to
/// look at on the way. Rate, number of the update and loss scale are read from the device, where the host puts them
/// before; whether loss and gradient are finite, and with that whether the weights are updated, is found on the device.
///
/// For each shape of a batch the first steps run operator by operator, on a stream of their own, so that what is made
/// once (workspaces, tables of positions) is there. The last of them is looked at for what a graph cannot hold, the one
/// after is recorded. A batch of another shape starts over.
class CapturedStep {
 public:
  /// Adds the gradients of these windows. @param loss_scale  scalar that the loss is multiplied by before the backward
  ///   pass; undefined: 1 @return their loss, a scalar
  using Gradients = std::function<Tensor(const Questions&, const Tensor& loss_scale)>;

  /// Operator by operator, before one is recorded.
  static constexpr int64_t steps_before = 3;

  /// @param options  resolved; such that `captured_step_problems` finds nothing
  CapturedStep(Gradients gradients, Optimizer& optimizer, const TrainOptions& options);

  /// One step. The optimiser's update is not counted yet (`Optimizer::count_update`), and was not made if loss or norm
  /// are not finite. What the gradients were is gone.
  /// @param questions  on any device @param loss_scale  of float16
  /// @throws ConfigError  naming the operator, if the step asks the host for something
  StepNumbers run(const Questions& questions, double learning_rate, double loss_scale);

  /// Whether the latest step was launched as one.
  bool replayed() const { return replayed_; }

 private:
  void take(const Questions& questions);
  void step();
  void capture();

  Gradients gradients_;
  Optimizer& optimizer_;
  TrainOptions options_;
  at::Device device_;
  at::Stream stream_;
  Questions held_;                              ///< this step's, where every step of this shape has its own
  Tensor learning_rate_, update_, loss_scale_;  ///< float32 scalars that the host writes
  Tensor numbers_;                              ///< float64: loss and norm
  std::unique_ptr<DeviceGraph> graph_;
  int64_t steps_of_this_shape_ = 0;
  bool replayed_ = false;
};

/// What of `train` no graph can hold, by path below `train`; empty if none is asked for. @param options  resolved
std::vector<Problem> captured_step_problems(const TrainOptions& options);

}  // namespace attnscale

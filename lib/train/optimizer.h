#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "attention/attention.h"
#include "train/options.h"

namespace attnscale {

/// One parameter, and what its optimiser keeps of it.
struct Slot {
  std::string name;
  Tensor parameter;
  double weight_decay = 0;
  double rate_factor = 1;     ///< of the learning rate
  double epsilon_factor = 1;  ///< of Adam's epsilon
  /// A matrix that turns one hidden vector into another: the `weight` of a Linear inside a block. Embeddings and the
  /// head, whose rows stand for tokens, are none; nor are filters of a convolution or learnt vectors.
  bool hidden_matrix = false;
  std::vector<std::pair<std::string, Tensor>> state = {};  ///< what a checkpoint saves, by a name such as first_moment
};

/// What a step that is launched as one reads on the device in place of the host's numbers: float32 scalars.
struct NumbersOnDevice {
  Tensor learning_rate;
  Tensor update;                 ///< the number of this one, from 1
  Tensor left_out;               ///< 1: nothing is changed; 0: it is
  Tensor gradient_divisor = {};  ///< gradients are divided by it; undefined: 1
};

/// Turns gradients into updates. Each kind of optimiser says what it keeps for a parameter and how one step goes;
/// names, checkpoints and parameters without a gradient are the same for all.
///
/// LibTorch's own torch::optim is passed over: it keeps its state by the parameters' addresses, in an archive of its
/// own, where checkpoints want named tensors to go on to the same bits. PyTorch's arithmetic is used where there is a
/// kernel for it (at::_fused_adam_, at::_fused_adamw_, at::_fused_sgd_: one pass over memory, `fused=True` in Python).
class Optimizer {
 public:
  explicit Optimizer(std::vector<Slot> slots);
  virtual ~Optimizer() = default;

  /// One update. A parameter without a gradient is left as it is.
  /// @param gradient_factor  what the gradients count for times themselves: that of clipping
  void step(double learning_rate, double gradient_factor = 1);

  /// The same with all its numbers on the device; not counted, which is for the host to do that learns whether it was
  /// made. For adamw and adam.
  void step_on_device(const NumbersOnDevice& numbers);
  void count_update() { ++steps_taken_; }

  /// Drops the gradients, so that the next backward pass writes instead of adding.
  void zero_gradients();

  int64_t steps_taken() const { return steps_taken_; }

  /// `<parameter>/<name of the state>`, and what the optimiser keeps of all together; for a checkpoint; shares memory.
  /// What is not a tensor follows from the steps.
  TensorMap state() const;

  /// Takes over what `state` gave. The caller has checked names and shapes.
  void restore(const TensorMap& state, int64_t steps_taken);

  /// The weights by parameter name that stand for the trained model, where those are not the parameters: new tensors.
  /// Empty where they are.
  virtual TensorMap averaged_weights() const { return {}; }

  /// Matrices first.
  const std::vector<Slot>& slots() const { return slots_; }

 protected:
  using Slots = std::vector<Slot*>;

  /// Whether `update` multiplies the gradients by `gradient_factor_` itself; otherwise that is done before.
  virtual bool scales_gradients() const { return false; }

  /// Before the updates of a step, which is counted already. @param learning_rate  without factors
  virtual void begin_step(double /*learning_rate*/) {}

  /// @param slots  those of one rate that have a gradient; not none. Gradients are off.
  /// @param learning_rate  theirs
  virtual void update(const Slots& slots, double learning_rate) = 0;

  /// Likewise for `step_on_device`. @param learning_rate  theirs, in place of that of `numbers`
  virtual void update_on_device(const Slots& slots, const Tensor& learning_rate, const NumbersOnDevice& numbers);

  std::vector<Slot> slots_;
  double gradient_factor_ = 1;
  std::vector<std::pair<std::string, Tensor>> shared_state_ = {};  ///< what a checkpoint saves beside the slots'

 private:
  std::map<double, Slots> with_gradient();

  int64_t steps_taken_ = 0;
};

/// The optimiser that `train.optimizer` names.
///
/// Under the maximal update parametrisation gradients shrink as the width grows: m times those of vectors and
/// embeddings, whose numbers each act on one of the stream's, m^2 times those of the matrices between, which act as W /
/// m on top of it. Adam's epsilon, which is added to a gradient's size, shrinks with them, or it would hold back wide
/// models alone (Yang et al. 2022, arXiv:2203.03466, appendix B.3; Everett et al. 2024, arXiv:2407.05872, section 5).
/// @param parameters  by name; leaves that require gradients, of one dtype @param options  resolved
/// @param width_multiple  m, of the model (lib/model/options.h); 1: the standard parametrisation
std::unique_ptr<Optimizer> make_optimizer(const std::vector<std::pair<std::string, Tensor>>& parameters,
                                          const TrainOptions& options, double width_multiple = 1);

/// Numbers that the optimiser keeps for each of a matrix's, at most; for estimates of memory.
int64_t state_numbers(const TrainOptions& options);

}  // namespace attnscale

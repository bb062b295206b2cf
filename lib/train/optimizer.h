#pragma once

#include <string>
#include <utility>
#include <vector>

#include "attention/attention.h"

namespace attnscale {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;
};

/// AdamW with decoupled weight decay on matrices only (parameters of two dimensions or more, embeddings included);
/// gains and biases are not pulled to zero.
///   w <- w - rate * decay * w;  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
///   w <- w - rate * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)
/// Source: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2; the decay is multiplied by the current rate, as
/// in PyTorch. Moments have the parameters' dtype. One fused pass over memory for each group.
class AdamW {
 public:
  /// @param parameters  by name; leaves that require gradients, of one dtype
  AdamW(std::vector<std::pair<std::string, Tensor>> parameters, const AdamWOptions& options);

  /// Norm of all gradients taken as one vector, a scalar tensor; zero if there are none.
  Tensor gradient_norm() const;

  /// Multiplies every gradient.
  void scale_gradients(double factor);

  /// One update. A parameter without a gradient is left as it is.
  void step(double learning_rate);

  /// Drops the gradients, so that the next backward pass writes instead of adding.
  void zero_gradients();

  int64_t steps_taken() const { return steps_taken_; }

  /// `<name>/first_moment` and `<name>/second_moment` of every parameter, for a checkpoint; shares memory.
  TensorMap state() const;

  /// Takes over what `state` gave. The caller has checked names and shapes.
  void restore(const TensorMap& state, int64_t steps_taken);

 private:
  struct Group {
    double weight_decay = 0;
    std::vector<std::string> names;
    std::vector<Tensor> parameters, first_moments, second_moments;
  };
  std::vector<Tensor> gradients() const;
  void update(const Group& group, double learning_rate);

  AdamWOptions options_;
  std::vector<Group> groups_;
  int64_t steps_taken_ = 0;
  Tensor step_count_;  ///< float32 scalar that the fused kernel reads
};

}  // namespace attnscale

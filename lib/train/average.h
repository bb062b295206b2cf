#pragma once

#include "model/transformer.h"

namespace attnscale {

/// Running average of a model's parameters, in their dtype: it is the weights after the first update, and then
///   average <- decay * average + (1 - decay) * weights
/// Source: Polyak and Juditsky 1992 for averaging; the exponential form and its start are those of PyTorch's
/// AveragedModel. Buffers are not averaged.
class WeightAverage {
 public:
  /// @param decay  in (0, 1)
  WeightAverage(Transformer& model, double decay);

  /// Takes in the weights after an update.
  void update();

  /// The averages by parameter name, for a checkpoint; shares memory.
  TensorMap state() const;

  /// Takes over what `state` gave. The caller has checked names and shapes.
  void restore(const TensorMap& state, int64_t updates);

 private:
  std::vector<std::string> names_;
  std::vector<Tensor> weights_, averages_;
  double decay_;
  int64_t updates_ = 0;
};

/// While it lives a model has other weights; then it has its own again, to the bit.
class OtherWeights {
 public:
  /// @param weights  of every parameter by name; or empty, and the model keeps its own
  OtherWeights(Transformer& model, const TensorMap& weights);
  ~OtherWeights();
  OtherWeights(const OtherWeights&) = delete;
  OtherWeights& operator=(const OtherWeights&) = delete;

 private:
  std::vector<std::pair<Tensor, Tensor>> own_;  ///< parameter, what it was
};

}  // namespace attnscale

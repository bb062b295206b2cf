#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "model/feed_forward.h"

// N positions of all rows, M model width, E experts, K experts of a position

namespace attnscale {

/// Feed-forward networks of which each position uses a few: y = sum_i g_i(x) expert_i(x) over the K experts with the
/// largest router logits r = W_r x, with
///   K > 1:  g = softmax of those K logits      (Shazeer et al. 2017, arXiv:1701.06538, equations 3 to 5, without
///   noise) K = 1:  g = softmax(r)_i of the chosen i   (Fedus et al. 2022, arXiv:2101.03961, equation 2), through which
///   the
///           router learns
/// Each expert reads the positions that chose it and no others; there is no limit to how many, so that no position is
/// dropped and none depends on another. Softmax is taken in float32 at least.
/// Holds `router.weight` [E, M] and `experts.<i>.*`, each a FeedForward.
class MixtureOfExperts : public torch::nn::Module {
 public:
  explicit MixtureOfExperts(const ModelOptions& options);

  /// @param x  [.., M] @return the same shape. Cost: 2 M E FLOPs and K experts for each position.
  Tensor forward(const Tensor& x);

  /// What the latest training-mode `forward` adds to the training loss, a scalar; undefined: nothing. Forgotten once
  /// taken. With f_i the share of the N K choices that fell on expert i and P_i the mean of softmax(r)_i:
  ///   balance_loss E sum_i f_i P_i        (Fedus et al. 2022, equations 4 to 6; 1 where all are alike)
  ///   + router_z_loss mean((ln sum_i exp(r_i))^2)      (Zoph et al. 2022, arXiv:2202.08906, equation 5)
  Tensor take_auxiliary_loss() { return std::exchange(auxiliary_loss_, Tensor()); }

 private:
  Tensor auxiliary_loss(const Tensor& logits, const Tensor& probabilities, const Tensor& chosen) const;

  int64_t per_token_;
  double balance_, z_;
  std::shared_ptr<Linear> router_;
  std::vector<std::shared_ptr<FeedForward>> experts_;
  Tensor auxiliary_loss_;
};

}  // namespace attnscale

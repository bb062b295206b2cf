#pragma once

#include "train/optimizer.h"

namespace attnscale {

/// Of a matrix's mean squared gradient only the means of its rows and columns are kept, R and C; a vector's is kept
/// whole, V. At step t, with b = 1 - t^-decay_exponent and the last two dimensions as the matrix:
///   R <- b R + (1 - b) mean_columns(g^2);  C <- b C + (1 - b) mean_rows(g^2);  V = R C / mean(R)
///   u = g / sqrt(max(V, epsilon^2));  u <- u / max(1, rms(u) / update_clip)
///   w <- w - rate * decay * w;  w <- w - min(rate, 1 / sqrt(t)) max(smallest_scale, rms(w)) u
/// where rms(w) is taken before the decay.
/// Source: Shazeer and Stern 2018, arXiv:1804.04235, algorithms 4 and 5; the bounds by epsilon in place of a number
/// added to g^2, and the decay, are PyTorch's. Keeps no first moment.
class Adafactor final : public Optimizer {
 public:
  Adafactor(std::vector<Slot> slots, const TrainOptions& options);

 private:
  void update(const Slots& slots, double learning_rate) override;
  Tensor mean_square(const Slot& slot, double keep) const;
  double decay_exponent_, epsilon_, update_clip_, smallest_scale_;
};

}  // namespace attnscale

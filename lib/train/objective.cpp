#include "train/objective.h"

namespace attnscale {

Objective training_objective(const Tensor& logits, const Tensor& targets, const TrainOptions& options,
                             const Tensor& count) {
  const auto how = count.defined() ? at::Reduction::Sum : at::Reduction::Mean;
  const auto cross_entropy = [&](double smoothing) {
    const auto sum = at::cross_entropy_loss(logits, targets, /*weight=*/{}, how, not_asked, smoothing);
    return count.defined() ? sum / count : sum;
  };
  Objective objective{.minimised = cross_entropy(options.label_smoothing), .loss = {}};
  if (options.label_smoothing == 0) objective.loss = objective.minimised.detach();
  else {
    const torch::NoGradGuard no_gradients;
    objective.loss = cross_entropy(0);
  }
  if (options.z_loss > 0) {
    const auto asked = targets.ne(not_asked);
    const auto squares = at::logsumexp(logits, -1).square().masked_fill(asked.logical_not(), 0);  // [N]
    const auto mean = squares.sum() / (count.defined() ? count : asked.sum());
    objective.minimised = objective.minimised + options.z_loss * mean;
  }
  return objective;
}

}  // namespace attnscale

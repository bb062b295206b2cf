#include "train/objective.h"

#include "tensor/kernels/cross_entropy_kernel.h"

namespace attnscale {

Tensor widened(const Tensor& logits) {
  const bool short_type = logits.scalar_type() == at::kBFloat16 || logits.scalar_type() == at::kHalf;
  return short_type ? logits.to(at::kFloat) : logits;
}

Objective training_objective(const Tensor& given, const Tensor& wanted, const TrainOptions& options,
                             const Tensor& count) {
  TORCH_CHECK(given.dim() > 1 && wanted.sizes() == given.sizes().slice(0, given.dim() - 1),
              "training_objective: logits ", given.sizes(), " and targets ", wanted.sizes(),
              ", expected [.., V] and [..]");
  if (cross_entropy_has_kernel(given)) {
    const auto both = cross_entropy_kernel(
        given, wanted, {.label_smoothing = options.label_smoothing, .z_loss = options.z_loss, .ignored = not_asked},
        count);
    return {.minimised = both.minimised, .loss = both.loss};
  }
  const auto logits = widened(given.flatten(0, -2)), targets = wanted.reshape({-1});
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

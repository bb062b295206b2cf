#include "model/mixture_of_experts.h"

#include <string>

namespace attnscale {

MixtureOfExperts::MixtureOfExperts(const ModelOptions& options)
    : per_token_(options.experts_per_token), balance_(options.balance_loss), z_(options.router_z_loss) {
  router_ = register_module("router", std::make_shared<Linear>(options.model_dim, options.experts, false));
  auto folder = register_module("experts", std::make_shared<torch::nn::Module>("experts"));
  for (int64_t i = 0; i < options.experts; ++i)
    experts_.push_back(folder->register_module(std::to_string(i), std::make_shared<FeedForward>(options)));
}

Tensor MixtureOfExperts::forward(const Tensor& x) {
  const auto positions = x.reshape({-1, x.size(-1)});  // [N, M]
  auto logits = router_->forward(positions);           // [N, E]
  if (logits.scalar_type() != at::kDouble) logits = logits.to(at::kFloat);
  const auto probabilities = at::softmax(logits, -1);
  auto [weights, chosen] = probabilities.topk(per_token_, -1);  // [N, K]
  if (per_token_ > 1) weights = weights / weights.sum(-1, /*keepdim=*/true);
  if (is_training() && (balance_ > 0 || z_ > 0)) auxiliary_loss_ = auxiliary_loss(logits, probabilities, chosen);

  const auto flat = weights.flatten();
  Tensor output;
  for (size_t i = 0; i < experts_.size(); ++i) {
    // Which of the N K choices are this expert's. With none it computes nothing, and its gradient is 0, not missing.
    const auto choices = chosen.flatten().eq(static_cast<int64_t>(i)).nonzero().squeeze(1);
    const auto rows = choices.floor_divide(per_token_);
    const auto results = experts_[i]->forward(positions.index_select(0, rows));
    const auto weighted = results * flat.index_select(0, choices).unsqueeze(1).to(results.scalar_type());
    if (!output.defined()) output = at::zeros(positions.sizes(), results.options());
    output = output.index_add(0, rows, weighted);
  }
  return output.view(x.sizes());
}

Tensor MixtureOfExperts::auxiliary_loss(const Tensor& logits, const Tensor& probabilities, const Tensor& chosen) const {
  const auto experts = static_cast<int64_t>(experts_.size());
  Tensor loss;
  if (balance_ > 0) {
    const auto counts = at::bincount(chosen.flatten(), {}, experts).to(probabilities.scalar_type());
    const auto share = counts / static_cast<double>(chosen.numel());  // [E]
    loss = balance_ * static_cast<double>(experts) * (share * probabilities.mean(0)).sum();
  }
  if (z_ > 0) {
    const auto squares = z_ * at::logsumexp(logits, -1).square().mean();
    loss = loss.defined() ? loss + squares : squares;
  }
  return loss;
}

}  // namespace attnscale

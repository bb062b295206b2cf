#include "model/block.h"

namespace attnscale {

Block::Block(const ModelOptions& options, int64_t layer, std::shared_ptr<Mixer> mixer, std::shared_ptr<RowDrops> drops)
    : parallel_(options.norm_placement == "parallel"),
      first_(*this, options, layer, 1, drops),
      second_(*this, options, layer, 2, drops),
      mixer_(register_module("mixer", std::move(mixer))) {
  if (options.experts > 1) experts_ = register_module("feed_forward", std::make_shared<MixtureOfExperts>(options));
  else feed_forward_ = register_module("feed_forward", std::make_shared<FeedForward>(options));
}

Tensor Block::forward(const Tensor& x, int64_t offset, State* state, const Tensor& bias) {
  const auto read = first_.read(x);
  const auto mixed = first_.write(x, mixer_->forward(read, offset, state, bias), is_training());
  const auto position = parallel_ ? read : second_.read(mixed);
  const auto output = experts_ ? experts_->forward(position) : feed_forward_->forward(position);
  return second_.write(mixed, output, is_training());
}

Tensor Block::take_auxiliary_loss() {
  const auto attention = mixer_->attention().take_auxiliary_loss();
  const auto experts = experts_ ? experts_->take_auxiliary_loss() : Tensor();
  if (!attention.defined()) return experts;
  return experts.defined() ? attention + experts : attention;
}

}  // namespace attnscale

#include "model/block.h"

namespace attnscale {

Block::Block(const ModelOptions& options, int64_t layer, std::shared_ptr<Mixer> mixer, std::shared_ptr<RowDrops> drops,
             std::shared_ptr<Mixer> cross)
    : parallel_(options.norm_placement == "parallel"),
      first_(*this, options, layer, 1, drops),
      second_(*this, options, layer, 2, drops),
      mixer_(register_module("mixer", std::move(mixer))) {
  if (cross) {
    third_.emplace(*this, options, layer, 3, drops);
    cross_ = register_module("cross", std::move(cross));
  }
  if (options.experts > 1) experts_ = register_module("feed_forward", std::make_shared<MixtureOfExperts>(options));
  else feed_forward_ = register_module("feed_forward", std::make_shared<FeedForward>(options));
}

Tensor Block::forward(const Tensor& x, int64_t offset, State* state, const Tensor& bias, const Tensor& memory) {
  const auto read = first_.read(x);
  auto mixed = first_.write(x, mixer_->forward(read, offset, state, bias), is_training());
  if (cross_) mixed = third_->write(mixed, cross_->forward(third_->read(mixed), 0, nullptr, {}, memory), is_training());
  const auto position = parallel_ ? read : second_.read(mixed);
  const auto output = in_float32(float32_feed_forward_, position, [&](const Tensor& rows) {
    return experts_ ? experts_->forward(rows) : feed_forward_->forward(rows);
  });
  return second_.write(mixed, output, is_training());
}

void Block::keep_float32(const Float32Parts& parts) {
  float32_feed_forward_ = parts.feed_forward;
  mixer_->keep_float32(parts);
  if (cross_) cross_->keep_float32(parts);
}

Tensor Block::take_auxiliary_loss() {
  Tensor total;
  for (const auto& loss :
       {mixer_->attention().take_auxiliary_loss(), cross_ ? cross_->attention().take_auxiliary_loss() : Tensor(),
        experts_ ? experts_->take_auxiliary_loss() : Tensor()})
    if (loss.defined()) total = total.defined() ? total + loss : loss;
  return total;
}

}  // namespace attnscale

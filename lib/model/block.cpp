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
  // In parallel blocks both read the first norm.
  first_only_multiplies_ = mixer_->only_projects() && !(parallel_ && options.experts > 1);
  second_only_multiplies_ = options.experts <= 1 && width_multiple(options) == 1;
  keep_float32({});
  if (options.experts > 1) experts_ = register_module("feed_forward", std::make_shared<MixtureOfExperts>(options));
  else feed_forward_ = register_module("feed_forward", std::make_shared<FeedForward>(options));
}

Flow Block::forward(const Flow& in, const Reader& next, int64_t offset, State* state, const Tensor& bias,
                    const Tensor& memory) {
  const bool training = is_training();
  const auto read = first_.read(in);
  const auto after_mixer = cross_ ? third_->reader() : parallel_ ? Reader{} : second_.reader();
  auto mixed = first_.write(in.stream, mixer_->forward(read, offset, state, bias), training, after_mixer);
  if (cross_)
    mixed = third_->write(mixed.stream, cross_->forward(third_->read(mixed), 0, nullptr, {}, memory), training,
                          parallel_ ? Reader{} : second_.reader());
  const auto position = parallel_ ? read : second_.read(mixed);
  const auto output = in_float32(float32_feed_forward_, position, [&](const Tensor& rows) {
    return experts_ ? experts_->forward(rows) : feed_forward_->forward(rows);
  });
  return second_.write(mixed.stream, output, training, next);
}

void Block::keep_float32(const Float32Parts& parts) {
  float32_feed_forward_ = parts.feed_forward;
  first_.let_read_narrow(first_only_multiplies_ && !parts.projections && !(parallel_ && parts.feed_forward));
  second_.let_read_narrow(second_only_multiplies_ && !parts.feed_forward);
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

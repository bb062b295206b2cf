#include "model/block.h"

namespace attnscale {

Block::Block(const ModelOptions& options, int64_t layer, std::shared_ptr<Mixer> mixer, std::shared_ptr<RowDrops> drops)
    : parallel_(options.norm_placement == "parallel"),
      first_(*this, options, layer, 1, drops),
      second_(*this, options, layer, 2, drops),
      mixer_(register_module("mixer", std::move(mixer))),
      feed_forward_(register_module("feed_forward", std::make_shared<FeedForward>(options))) {}

Tensor Block::forward(const Tensor& x, int64_t offset, State* state, const Tensor& bias) {
  const auto read = first_.read(x);
  const auto mixed = first_.write(x, mixer_->forward(read, offset, state, bias), is_training());
  const auto output = feed_forward_->forward(parallel_ ? read : second_.read(mixed));
  return second_.write(mixed, output, is_training());
}

}  // namespace attnscale

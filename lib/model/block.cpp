#include "model/block.h"

namespace attnscale {

Block::Block(const ModelOptions& options, std::shared_ptr<Mixer> mixer)
    : dropout_(options.dropout),
      norm1_(register_module("norm1", std::make_shared<Norm>(options))),
      norm2_(register_module("norm2", std::make_shared<Norm>(options))),
      mixer_(register_module("mixer", std::move(mixer))),
      feed_forward_(register_module("feed_forward", std::make_shared<FeedForward>(options))) {}

Tensor Block::forward(const Tensor& x, int64_t offset, State* state) {
  const auto mixed = x + at::dropout(mixer_->forward(norm1_->forward(x), offset, state), dropout_, is_training());
  return mixed + at::dropout(feed_forward_->forward(norm2_->forward(mixed)), dropout_, is_training());
}

}  // namespace attnscale

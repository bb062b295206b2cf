#include "model/stack.h"

#include <utility>

#include <fmt/format.h>

#include "attention/registry.h"
#include "core/hash.h"
#include "model/recomputation.h"

namespace attnscale {

Stack::Stack(torch::nn::Module& owner, const ModelOptions& options, const AttentionChoice& attention, int64_t context,
             StackPlace place, const std::string& prefix, uint64_t init_seed, std::shared_ptr<RowDrops> drops)
    : drops_(drops) {
  if (has_logit_bias(options))
    position_bias_ = owner.register_module("position_bias", std::make_shared<PositionBias>(options, context));
  const auto trained = static_cast<double>(trained_context(options, context));
  const RotaryScaling scaling{.kind = options.rotary_scaling, .factor = options.rotary_factor, .trained = trained};
  std::map<int64_t, std::shared_ptr<Rotary>> rotaries;  // by the width that they turn
  const auto rotary_of = [&](const AttentionChoice& choice) -> std::shared_ptr<Rotary> {
    if (options.position != "rotary") return nullptr;
    const int64_t width = rotary_width(options, variant_named(choice.variant).rotary_parts);
    auto& rotary = rotaries[width];
    if (!rotary) rotary = std::make_shared<Rotary>(context, width, options.rotary_base, scaling);
    return rotary;
  };
  const bool crossed = place == StackPlace::main && options.head == "encoder_decoder";
  auto blocks = owner.register_module("blocks", std::make_shared<torch::nn::Module>("blocks"));
  for (int64_t layer = 0; layer < options.depth; ++layer) {
    const auto& choice = at_layer(attention, layer);
    const auto mixer = [&](StackPlace at, const char* name, std::shared_ptr<Rotary> rotary) {
      const auto seed = stream_seed(init_seed, fmt::format("{}blocks.{}.{}.attention", prefix, layer, name));
      return std::make_shared<Mixer>(options, choice, attention_geometry(options, context, layer, at),
                                     std::move(rotary), seed);
    };
    auto block = std::make_shared<Block>(options, layer, mixer(place, "mixer", rotary_of(choice)), drops,
                                         crossed ? mixer(StackPlace::cross, "cross", nullptr) : nullptr);
    blocks_.push_back(blocks->register_module(std::to_string(layer), std::move(block)));
  }
}

Tensor Stack::bias(int64_t count, const Tensor& like) const {
  return position_bias_ ? position_bias_->forward(count, count, like) : Tensor();
}

Tensor Stack::forward(Tensor x, int64_t offset, std::vector<State>* states, const Reader& above, const Tensor& memory) {
  const int64_t count = x.size(1), keys = (states ? offset : 0) + count;
  const auto on_logits = position_bias_ ? position_bias_->forward(count, keys, x) : Tensor();
  auxiliary_losses_.clear();
  Flow flow{std::move(x)};
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    auto& block = *blocks_[layer];
    if (checkpointing_ && block.is_training() && states == nullptr && flow.stream.requires_grad()) {
      flow = {recomputed_block(layer, flow.stream, offset, on_logits, memory)};
      continue;
    }
    const bool last = layer + 1 == blocks_.size();
    const auto next = last ? above : checkpointing_ ? Reader{} : blocks_[layer + 1]->reader();
    flow = block.forward(flow, next, offset, states ? &states->at(layer) : nullptr, on_logits, memory);
  }
  return read_by(above, flow);
}

Tensor Stack::recomputed_block(size_t layer, const Tensor& x, int64_t offset, const Tensor& bias,
                               const Tensor& memory) {
  const auto work = [block = blocks_[layer], offset](const Tensor& in, const Tensor& on_logits, const Tensor& seen) {
    WithAuxiliary result;
    result.output = block->forward(in, offset, nullptr, on_logits, seen);
    result.auxiliary_loss = block->take_auxiliary_loss();
    return result;
  };
  const auto result =
      recomputed(work, x, bias, memory, {at::globalContext().defaultGenerator(x.device()), drops_->generator()});
  if (result.auxiliary_loss.defined()) auxiliary_losses_.push_back(result.auxiliary_loss);
  return result.output;
}

Tensor Stack::take_auxiliary_loss() {
  auto losses = std::exchange(auxiliary_losses_, {});
  for (const auto& block : blocks_)
    if (auto loss = block->take_auxiliary_loss(); loss.defined()) losses.push_back(std::move(loss));
  Tensor total;
  for (const auto& loss : losses) total = total.defined() ? total + loss : loss;
  return total;
}

Encoder::Encoder(const ModelOptions& options, const AttentionChoice& attention, int64_t context, uint64_t init_seed,
                 std::shared_ptr<RowDrops> drops) {
  auto own = options;
  own.depth = options.encoder_depth.value();
  own.causal = false;
  stack_ = std::make_unique<Stack>(*this, own, attention, context, StackPlace::encoder, "encoder.", init_seed,
                                   std::move(drops));
  if (*options.final_norm) final_norm_ = register_module("final_norm", std::make_shared<Norm>(options));
}

Tensor Encoder::forward(const Tensor& x) { return stack_->forward(x, 0, nullptr, {final_norm_.get()}); }

}  // namespace attnscale

#include "model/transformer.h"

#include <map>

#include <fmt/format.h>

#include "attention/registry.h"
#include "core/hash.h"
#include "model/attention_choice.h"
#include "model/block.h"
#include "model/embedding.h"
#include "model/initialisation.h"
#include "model/position_bias.h"
#include "model/reconstruction.h"
#include "model/scaled.h"
#include "tensor/shapes.h"

// B batch, T positions, M model width, V vocabulary

namespace attnscale {

struct Transformer::Parts {
  ModelOptions options;
  int64_t context;
  std::shared_ptr<Embedding> embedding;
  std::shared_ptr<PositionBias> position_bias;  // null unless positions are a bias on the logits
  std::vector<std::shared_ptr<Block>> blocks;
  std::shared_ptr<Reconstruction> reconstruction;  // null unless the head reconstructs
  std::shared_ptr<Norm> final_norm;
  std::shared_ptr<Linear> head, head_down;  // null where the embedding's weights are used, and unless factorised
  std::shared_ptr<RowDrops> drops = std::make_shared<RowDrops>();

  /// Of `count` positions after `offset` others; undefined where there is none.
  Tensor bias(int64_t offset, int64_t count) const {
    return position_bias ? position_bias->forward(count, offset + count, embedding->token()) : Tensor();
  }
  /// Of the final norm's output, what the head reads. @param x  [B, T, M]
  Tensor pooled(const Tensor& x) const {
    if (options.head != "classify") return x;
    if (options.pooling == "mean") return x.mean(1, /*keepdim=*/true);
    return x.narrow(1, options.pooling == "first" ? 0 : x.size(1) - 1, 1);  // [B, 1, M]
  }
  Tensor logits(const Tensor& tokens, int64_t offset, std::vector<State>* states, bool training);
};

int64_t ModelState::bytes() const {
  int64_t total = 0;
  for (const auto& layer : layers) total += layer.bytes();
  return total;
}

Transformer::Transformer(const ModelOptions& options, const AttentionChoice& attention, int64_t context,
                         uint64_t init_seed)
    : parts_(std::make_unique<Parts>()) {
  if (const auto problems = model_problems(options, attention, context); !problems.empty())
    throw ConfigError(problems.front().path + ": " + problems.front().message);
  parts_->options = options;
  parts_->context = context;
  parts_->embedding = register_module("embedding", std::make_shared<Embedding>(options, context));
  if (has_logit_bias(options))
    parts_->position_bias = register_module("position_bias", std::make_shared<PositionBias>(options, context));
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
  auto blocks = register_module("blocks", std::make_shared<torch::nn::Module>("blocks"));
  for (int64_t layer = 0; layer < options.depth; ++layer) {
    const auto name = fmt::format("blocks.{}.mixer.attention", layer);
    const auto& choice = at_layer(attention, layer);
    auto mixer = std::make_shared<Mixer>(options, choice, attention_geometry(options, context, layer),
                                         rotary_of(choice), stream_seed(init_seed, name));
    parts_->blocks.push_back(blocks->register_module(
        std::to_string(layer), std::make_shared<Block>(options, layer, std::move(mixer), parts_->drops)));
  }
  if (options.head == "reconstruct")
    parts_->reconstruction = register_module("reconstruction", std::make_shared<Reconstruction>(options, context));
  if (*options.final_norm) parts_->final_norm = register_module("final_norm", std::make_shared<Norm>(options));
  if (!options.tie_embeddings) {
    const int64_t M = options.model_dim, E = *options.embedding_dim;
    if (E != M) parts_->head_down = register_module("head_down", std::make_shared<Linear>(M, E, false));
    parts_->head = register_module("head", std::make_shared<Linear>(E, *options.vocab_size, false));
  }
  initialise(*this, options, init_seed);
}

Transformer::~Transformer() = default;

const ModelOptions& Transformer::options() const { return parts_->options; }

Tensor Transformer::Parts::logits(const Tensor& tokens, int64_t offset, std::vector<State>* states, bool training) {
  check_shapes("Transformer", {{"tokens", tokens, "B T"}});
  if (offset + tokens.size(1) > context)
    throw ShapeError(
        fmt::format("Transformer: {} tokens after {} others pass the context of {}; take a shorter text or "
                    "build the model with a larger data.context",
                    tokens.size(1), offset, context));
  auto x = at::dropout(embedding->forward(tokens, offset), *options.embedding_dropout, training);  // [B, T, M]
  const auto on_logits = bias(offset, tokens.size(1));
  for (size_t layer = 0; layer < blocks.size(); ++layer)
    x = blocks[layer]->forward(x, offset, states ? &states->at(layer) : nullptr, on_logits);
  if (reconstruction) x = reconstruction->forward(x);
  if (final_norm) x = final_norm->forward(x);
  x = scaled(pooled(x), 1 / width_multiple(options));
  if (head_down) x = head_down->forward(x);               // [B, T, E]
  return head ? head->forward(x) : embedding->logits(x);  // [B, T, V]
}

Tensor Transformer::forward(const Tensor& tokens) { return parts_->logits(tokens, 0, nullptr, is_training()); }

void Transformer::observe(const Tensor& tokens, const std::function<void(int64_t, Attention&, const Inputs&)>& look) {
  const auto without_gradients = [](auto work) {
    const torch::NoGradGuard guard;
    return work();
  };
  auto x = without_gradients([&] { return parts_->embedding->forward(tokens, 0); });
  const auto bias = without_gradients([&] { return parts_->bias(0, tokens.size(1)); });
  for (size_t layer = 0; layer < parts_->blocks.size(); ++layer) {
    auto& block = *parts_->blocks[layer];
    const auto inputs = without_gradients([&] { return block.attention_inputs(x, bias); });
    look(static_cast<int64_t>(layer), block.mixer().attention(), inputs);
    x = without_gradients([&] { return block.forward(x, 0, nullptr, bias); });
  }
}

Tensor Transformer::take_auxiliary_loss() {
  Tensor total;
  for (const auto& block : parts_->blocks) {
    const auto loss = block->take_auxiliary_loss();
    if (loss.defined()) total = total.defined() ? total + loss : loss;
  }
  return total;
}

void Transformer::seed_stochastic_depth(uint64_t seed) { parts_->drops->seed(seed); }

ModelState Transformer::new_state(int64_t batch) const {
  if (const auto& head = options().head; head != "next_token")
    throw ConfigError(
        fmt::format("model.head: \"{}\" does not tell the next token, so there is nothing to decode; "
                    "train with \"next_token\"",
                    head));
  const auto& like = parts_->embedding->token();
  const auto options = torch::dtype(like.scalar_type()).device(like.device());
  ModelState state;
  for (const auto& block : parts_->blocks) state.layers.push_back(block->mixer().attention().new_state(batch, options));
  return state;
}

Tensor Transformer::decode(const Tensor& tokens, ModelState& state) {
  auto logits = parts_->logits(tokens, state.length, &state.layers, is_training());
  state.length += tokens.size(1);
  return logits;
}

}  // namespace attnscale

#include "model/transformer.h"

#include <fmt/format.h>

#include "core/error.h"
#include "model/embedding.h"
#include "model/initialisation.h"
#include "model/reconstruction.h"
#include "model/scaled.h"
#include "model/stack.h"
#include "tensor/dropout.h"
#include "tensor/shapes.h"

// B batch, T positions, M model width, V vocabulary

namespace attnscale {

struct Transformer::Parts {
  ModelOptions options;
  int64_t context;
  std::shared_ptr<Embedding> embedding;
  std::shared_ptr<Encoder> encoder;  // null unless the head has one
  std::unique_ptr<Stack> stack;
  std::shared_ptr<Reconstruction> reconstruction;  // null unless the head reconstructs
  std::shared_ptr<Norm> final_norm;
  std::shared_ptr<Linear> head, head_down;  // null where the embedding's weights are used, and unless factorised
  Float32Parts float32;
  std::shared_ptr<RowDrops> drops = std::make_shared<RowDrops>();

  Tensor embedded(const Tensor& tokens, int64_t offset, bool training) {
    return with_dropout(embedding->forward(tokens, offset), *options.embedding_dropout, training);  // [B, T, M]
  }

  /// Of the final norm's output, what the head reads. @param x  [B, T, M]
  Tensor pooled(const Tensor& x) const {
    if (options.head != "classify") return x;
    if (options.pooling == "mean") return x.mean(1, /*keepdim=*/true);
    return x.narrow(1, options.pooling == "first" ? 0 : x.size(1) - 1, 1);  // [B, 1, M]
  }
  /// How the head reads.
  Reader above() const {
    const bool only_multiplies = options.head != "classify" && width_multiple(options) == 1 && !float32.head;
    return {final_norm.get(), read_dtype(only_multiplies)};
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
  if (options.head == "encoder_decoder")
    parts_->encoder =
        register_module("encoder", std::make_shared<Encoder>(options, attention, context, init_seed, parts_->drops));
  parts_->stack =
      std::make_unique<Stack>(*this, options, attention, context, StackPlace::main, "", init_seed, parts_->drops);
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
  Tensor x;  // [B, T, M]
  if (encoder) {
    const int64_t read = options.input_length.value(), written = tokens.size(1) + 1 - read;
    if (written < 1)
      throw ShapeError(
          fmt::format("Transformer: {} tokens are fewer than the {} of the encoder's input "
                      "(model.input_length)",
                      tokens.size(1), read));
    const auto memory = encoder->forward(embedded(tokens.narrow(1, 0, read), 0, training));
    x = stack->forward(embedded(tokens.narrow(1, read - 1, written), read - 1, training), read - 1, nullptr, above(),
                       memory);
  } else {
    x = stack->forward(embedded(tokens, offset, training), offset, states, reconstruction ? Reader{} : above());
  }
  if (reconstruction) {
    x = in_float32(float32.head, x, [&](const Tensor& states) { return reconstruction->forward(states); });
    x = read_by(above(), {x});
  }
  x = scaled(pooled(x), 1 / width_multiple(options));
  return in_float32(float32.head, x, [&](Tensor read) {
    if (head_down) read = head_down->forward(read);               // [B, T, E]
    return head ? head->forward(read) : embedding->logits(read);  // [B, T, V]
  });
}

Tensor Transformer::forward(const Tensor& tokens) { return parts_->logits(tokens, 0, nullptr, is_training()); }

void Transformer::observe(const Tensor& tokens, const std::function<void(int64_t, Attention&, const Inputs&)>& look,
                          const std::function<void(int64_t, const Tensor&)>& stream) {
  const auto without_gradients = [](auto work) {
    const torch::NoGradGuard guard;
    return work();
  };
  if (parts_->encoder)
    throw ConfigError(
        "model.head: \"encoder_decoder\" has three kinds of attention, of which nothing here shows one; "
        "take a model of one stack of blocks");
  auto x = without_gradients([&] { return parts_->embedding->forward(tokens, 0); });
  const auto bias = without_gradients([&] { return parts_->stack->bias(tokens.size(1), x); });
  const auto& blocks = parts_->stack->blocks();
  for (size_t layer = 0; layer < blocks.size(); ++layer) {
    auto& block = *blocks[layer];
    const auto inputs = without_gradients([&] { return block.attention_inputs(x, bias); });
    look(static_cast<int64_t>(layer), block.mixer().attention(), inputs);
    x = without_gradients([&] { return block.forward(x, 0, nullptr, bias); });
    if (stream) stream(static_cast<int64_t>(layer), x);
  }
}

Tensor Transformer::take_auxiliary_loss() {
  const auto own = parts_->stack->take_auxiliary_loss();
  const auto of_encoder = parts_->encoder ? parts_->encoder->stack().take_auxiliary_loss() : Tensor();
  return own.defined() && of_encoder.defined() ? of_encoder + own : own.defined() ? own : of_encoder;
}

void Transformer::checkpoint_activations(bool on) {
  if (parts_->encoder) parts_->encoder->stack().checkpoint_activations(on);
  parts_->stack->checkpoint_activations(on);
}

void Transformer::keep_float32(const Float32Parts& parts) {
  parts_->float32 = parts;
  parts_->embedding->keep_float32(parts.head);
  if (parts_->encoder) parts_->encoder->stack().keep_float32(parts);
  parts_->stack->keep_float32(parts);
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
  for (const auto& block : parts_->stack->blocks())
    state.layers.push_back(block->mixer().attention().new_state(batch, options));
  return state;
}

Tensor Transformer::decode(const Tensor& tokens, ModelState& state) {
  auto logits = parts_->logits(tokens, state.length, &state.layers, is_training());
  state.length += tokens.size(1);
  return logits;
}

}  // namespace attnscale

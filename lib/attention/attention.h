#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include <torch/nn/module.h>
#include <torch/types.h>

// B batch, H heads, G key-value heads (G divides H), T queries, S keys, D key width, E value width,
// M width of the residual stream
//
// The one interface that every attention variant implements. The mixer (lib/model) owns the
// projections; a variant receives query, key, value and the gates it asked for, so that two
// variants differ only in what is being studied.
//
// A variant whose paper defines its own projections has the trait `owns_projections`: it receives
// `hidden` [B, 1, T, M] alone and returns [B, 1, T, M]; positions stay in dimension 2.

namespace attnscale {

using torch::Tensor;
using TensorMap = std::map<std::string, Tensor>;

/// What a variant can do. Declared once, in its registration; checked in one place while planning.
enum class Trait {
  causal,             ///< output t depends on positions up to t only
  bidirectional,      ///< every position may depend on every other
  cross,              ///< queries may come from another sequence (T differs from S)
  padding,            ///< honours a key-padding mask
  incremental,        ///< decodes with a state
  grouped_heads,      ///< takes fewer key-value heads than heads
  logit_bias,         ///< adds a bias to the logit of each query and key, which relative positions come as
  owns_projections,   ///< reads the residual stream and projects by itself
  content_dependent,  ///< which positions interact depends on their content; `sees` is an upper bound
};
std::string name_of(Trait trait);

/// The place in a model that a variant is built for.
struct Geometry {
  int64_t num_heads = 1;
  int64_t num_kv_heads = 1;  ///< divides num_heads
  int64_t head_dim = 16;     ///< D
  int64_t value_dim = 16;    ///< E
  int64_t context = 64;      ///< most positions it will ever see
  bool causal = true;
  int64_t layer = 0;       ///< 0-based
  int64_t depth = 1;       ///< layers in the model
  int64_t model_dim = 32;  ///< M; for variants that own their projections
};

/// Which keys are real. Causality is a property of the geometry; the newest query is aligned with
/// the newest key.
struct Inputs {
  Tensor query = {};        ///< [B, H, T, D]
  Tensor key = {};          ///< [B, G, S, D]
  Tensor value = {};        ///< [B, G, S, E]
  TensorMap gates = {};     ///< by the names in VariantInfo::gates; each [B, H, T, width]
  Tensor hidden = {};       ///< [B, 1, T, M], instead of all of the above, for variants that own their projections
  Tensor key_padding = {};  ///< bool [B, S], true at real keys; undefined: all are real
  Tensor bias = {};         ///< [1, H, T, S], added to the logits after scaling; undefined: none. Needs logit_bias
};

/// What decoding carries from one call to the next. Everything is in `tensors`, so that bytes are
/// measured, and a state can be saved and restored.
struct State {
  int64_t length = 0;  ///< positions absorbed
  TensorMap tensors;
  int64_t bytes() const;
};

/// Sizes of one call, for cost formulas.
struct Sizes {
  int64_t batch = 1;
  int64_t queries = 64;  ///< T
  int64_t keys = 64;     ///< S
};

/// What costs are stated in.
inline constexpr int64_t float_bytes = 4;

/// A multiply-add counts two FLOPs; only matrix products count, as in the field's usual ledgers.
struct Cost {
  double algorithmic_flops = 0;  ///< what the definition needs
  double executed_flops = 0;     ///< what this implementation does in one forward pass
  int64_t activation_bytes = 0;  ///< kept for the backward pass beyond q, k, v and the output, float32
  int64_t state_bytes = 0;       ///< decode state after `keys` positions, float32
};

/// A per-position input that a variant asks the mixer to project from the residual stream.
struct Gate {
  std::string name;
  int64_t width = 1;  ///< numbers per head and position
};

class Attention : public torch::nn::Module {
 public:
  explicit Attention(const Geometry& geometry) : geometry_(geometry) {}

  /// All positions at once. @return [B, H, T, E], dtype of value; [B, 1, T, M] with `hidden`
  /// A query that can see no key gives zeros.
  virtual Tensor forward(const Inputs& inputs) = 0;

  /// A fresh decode state for a batch. @throws ConfigError unless the variant is incremental and causal
  virtual State new_state(int64_t batch, torch::TensorOptions options) const;

  /// Appends T positions to the state and returns their outputs [B, H, T, E]: the same as the
  /// last T rows of `forward` over everything absorbed. Padding is not supported here.
  virtual Tensor decode(const Inputs& inputs, State& state);

  /// The definition as a plain loop over positions in float64, written from the paper's equation,
  /// differentiable. Slow on purpose: this is what `forward` is compared with.
  virtual Tensor oracle(const Inputs& inputs) const = 0;

  /// Whether the output of `query` may depend on `key` when `keys` keys are there (all real) and
  /// queries are aligned with the newest key. Conformance checks both directions.
  virtual bool sees(int64_t query, int64_t key, int64_t keys) const;

  /// What the latest training-mode `forward` adds to the training loss, as a scalar; undefined: nothing.
  /// Taken by the trainer once per step, and never part of an evaluation.
  Tensor take_auxiliary_loss() { return std::exchange(auxiliary_loss_, Tensor()); }

  const Geometry& geometry() const { return geometry_; }

 protected:
  Geometry geometry_;
  Tensor auxiliary_loss_;
};

}  // namespace attnscale

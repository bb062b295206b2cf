#include "model/float32_parts.h"

#include <algorithm>

#include "attention/registry.h"
#include "model/initialisation.h"
#include "tensor/precision.h"

namespace attnscale {
namespace {

constexpr int64_t most_positions = 128;
constexpr uint64_t trial_seed = 1;

/// What the mixer would hand over: [1, heads, T, width], of `products`
Inputs trial_inputs(const VariantInfo& variant, const AttentionChoice& choice, const Geometry& g,
                    at::ScalarType products) {
  const int64_t T = std::min(g.context, most_positions);
  const auto random = [&](int64_t heads, int64_t width) { return torch::randn({1, heads, T, width}).to(products); };
  Inputs in{.query = random(g.num_heads, g.head_dim),
            .key = random(g.num_kv_heads, g.head_dim),
            .value = random(g.num_kv_heads, g.value_dim)};
  for (const auto& gate : variant.gates(choice.options, g)) in.gates[gate.name] = random(g.num_heads, gate.width);
  return in;
}

}  // namespace

Inputs in_float32(Inputs in) {
  const auto cast = [](Tensor& x) {
    if (x.defined()) x = x.to(at::kFloat);
  };
  for (auto* x : {&in.query, &in.key, &in.value, &in.hidden, &in.bias}) cast(*x);
  for (auto& [name, gate] : in.gates) cast(gate);
  return in;
}

bool attention_heeds_float32(const ModelOptions& options, const AttentionChoice& attention, int64_t context,
                             at::ScalarType products) {
  const torch::NoGradGuard no_gradients;
  const DefaultSeed same_each_time(trial_seed);
  const auto kinds = std::max<int64_t>(1, std::ssize(attention.layers));
  for (int64_t layer = 0; layer < std::min(options.depth, kinds); ++layer) {
    const auto& choice = at_layer(attention, layer);
    const auto& variant = variant_named(choice.variant);
    if (variant.traits.contains(Trait::owns_projections)) return true;
    const auto geometry = attention_geometry(options, context, layer);
    const auto attends = variant.make(choice.options, geometry);
    attends->eval();
    const auto in = trial_inputs(variant, choice, geometry, products);
    Tensor mixed;
    {
      const ForwardPrecision precision(products, at::kCPU);
      mixed = attends->forward(in);
    }
    if (!at::equal(mixed.to(products), attends->forward(in_float32(in)).to(products))) return true;
  }
  return false;
}

}  // namespace attnscale

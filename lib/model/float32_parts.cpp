#include "model/float32_parts.h"

#include <algorithm>

#include "attention/registry.h"

namespace attnscale {
namespace {

bool heeds_float32(const VariantInfo& variant, bool causal, bool kernels) {
  if (variant.traits.contains(Trait::owns_projections)) return true;
  switch (variant.float32_sums) {
    case Float32Sums::always: return false;
    case Float32Sums::causal: return !causal;
    case Float32Sums::but_for_kernels: return causal && kernels;
    case Float32Sums::never: break;
  }
  return true;
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
  const bool kernels = products == at::kBFloat16;  // on some processors
  const auto kinds = std::max<int64_t>(1, std::ssize(attention.layers));
  for (int64_t layer = 0; layer < std::min(options.depth, kinds); ++layer)
    if (heeds_float32(variant_named(at_layer(attention, layer).variant),
                      attention_geometry(options, context, layer).causal, kernels))
      return true;
  return false;
}

}  // namespace attnscale

#include "attention/key_value_state.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

namespace attnscale {

Inputs appended(const Inputs& in, State& state) {
  auto& key = state.tensors.at("key");
  auto& value = state.tensors.at("value");
  key = at::cat({key, in.key}, 2);
  value = at::cat({value, in.value}, 2);
  state.length += in.key.size(2);
  return {.query = in.query, .key = key, .value = value, .bias = in.bias};
}

State empty_key_value_state(const Geometry& geometry, int64_t batch, torch::TensorOptions options) {
  const auto empty = [&](int64_t width) { return at::empty({batch, geometry.num_kv_heads, 0, width}, options); };
  return {.tensors = {{"key", empty(geometry.head_dim)}, {"value", empty(geometry.value_dim)}}};
}

State CachedAttention::new_state(int64_t batch, torch::TensorOptions options) const {
  if (!geometry_.causal) return Attention::new_state(batch, options);
  return empty_key_value_state(geometry_, batch, options);
}

int64_t key_value_bytes(const Geometry& geometry, int64_t batch, int64_t positions) {
  return float_bytes * batch * geometry.num_kv_heads * positions * (geometry.head_dim + geometry.value_dim);
}

}  // namespace attnscale

#include "attention/key_value_state.h"

#include <algorithm>
#include <cstring>

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

namespace attnscale {

namespace {

/// cache[.., at:, :] = fresh, [B, G, n, D] each.
void put_positions(const Tensor& cache, int64_t at, const Tensor& fresh) {
  const bool plain = cache.is_cpu() && fresh.is_cpu() && cache.scalar_type() == fresh.scalar_type() &&
                     fresh.stride(3) == 1 && cache.stride(3) == 1;
  if (!plain) {
    cache.narrow(2, at, fresh.size(2)).copy_(fresh);
    return;
  }
  // Of one position, LibTorch would take longer to find out how than to do it.
  const size_t bytes = static_cast<size_t>(fresh.size(3)) * fresh.element_size();
  auto* to = static_cast<char*>(cache.mutable_data_ptr());
  const auto* from = static_cast<const char*>(fresh.const_data_ptr());
  const auto place = [](const Tensor& x, int64_t b, int64_t g, int64_t t) {
    return (b * x.stride(0) + g * x.stride(1) + t * x.stride(2)) * static_cast<int64_t>(x.element_size());
  };
  for (int64_t b = 0; b < fresh.size(0); ++b)
    for (int64_t g = 0; g < fresh.size(1); ++g)
      for (int64_t t = 0; t < fresh.size(2); ++t)
        std::memcpy(to + place(cache, b, g, at + t), from + place(fresh, b, g, t), bytes);
}

/// The next positions of a cache [B, G, S, D], in the room behind it if that is there and nobody else's.
Tensor grown(Tensor& cache, const Tensor& fresh) {
  TORCH_CHECK(fresh.dim() == 4 && fresh.size(0) == cache.size(0) && fresh.size(1) == cache.size(1) &&
                  fresh.size(3) == cache.size(3),
              "decoding: ", fresh.sizes(), " does not continue a cache of ", cache.sizes());
  const int64_t rows = cache.size(0), heads = cache.size(1), old = cache.size(2), count = old + fresh.size(2),
                width = cache.size(3);
  if (at::GradMode::is_enabled() || rows == 0 || heads == 0 || width == 0) return at::cat({cache, fresh}, 2);
  const at::AutoDispatchBelowADInplaceOrView no_views_to_keep_track_of;  // they would hold the memory too
  const auto view = [&](const Tensor& of) { return of.as_strided({rows, heads, count, width}, of.strides()); };
  const bool own = cache.use_count() == 1 && cache.storage().use_count() == 1 && cache.storage_offset() == 0;
  // Where a dimension has size 1 its stride may be anything: only what the storage holds is room.
  const bool whole = static_cast<int64_t>(cache.storage().nbytes()) ==
                     rows * cache.stride(0) * static_cast<int64_t>(cache.element_size());
  const int64_t room = own && whole && cache.stride(3) == 1 && cache.stride(2) == width &&
                               cache.stride(1) % width == 0 && cache.stride(0) == heads * cache.stride(1) && old > 0
                           ? cache.stride(1) / width
                           : 0;
  Tensor result;
  if (count <= room) {
    result = view(cache);
  } else {
    constexpr int64_t fewest = 16;
    const auto memory = at::empty({rows, heads, count + std::max(fewest, count / 4), width}, cache.options());
    result = view(memory);
    result.narrow(2, 0, old).copy_(cache);
  }
  put_positions(result, old, fresh);
  return result;
}

}  // namespace

Inputs appended(const Inputs& in, State& state) {
  auto& key = state.tensors.at("key");
  auto& value = state.tensors.at("value");
  key = grown(key, in.key);
  value = grown(value, in.value);
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

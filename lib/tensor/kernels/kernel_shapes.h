#pragma once

#include <torch/types.h>

// What kernels ask of shapes before they read memory by them: LibTorch's operators, their twins, ask as much. By hand,
// as `check_shapes` costs what a small product does.

namespace attnscale {

using torch::Tensor;
struct TileLayout;

/// @param vector  [size] or undefined
inline void check_vector(const char* place, const Tensor& vector, int64_t size) {
  TORCH_CHECK(!vector.defined() || (vector.dim() == 1 && vector.size(0) == size), place, " ",
              vector.defined() ? vector.sizes() : at::IntArrayRef(), ", expected [", size, "]");
}

/// @param query [B, H, T, D] @param key [B, G, S, D] @param value [B, G, S, E], G divides H
inline void check_heads(const char* place, const Tensor& query, const Tensor& key, const Tensor& value) {
  const bool four = query.dim() == 4 && key.dim() == 4 && value.dim() == 4;
  TORCH_CHECK(four && key.size(0) == query.size(0) && value.size(0) == query.size(0) && key.size(1) > 0 &&
                  query.size(1) % key.size(1) == 0 && value.size(1) == key.size(1) && value.size(2) == key.size(2) &&
                  key.size(3) == query.size(3),
              place, ": query ", query.sizes(), ", key ", key.sizes(), " and value ", value.sizes(),
              ", expected [B, H, T, D], [B, G, S, D] and [B, G, S, E], H a multiple of G");
}

/// Of `attention_kernel`, for so many queries and keys.
void check_layout(const TileLayout& layout, int64_t queries, int64_t keys);

}  // namespace attnscale

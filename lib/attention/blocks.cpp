#include "attention/blocks.h"

#include <algorithm>

#include <ATen/ops/constant_pad_nd.h>
#include <fmt/format.h>

#include "core/error.h"
#include "tensor/shapes.h"

namespace attnscale {

Blocks even_blocks(int64_t positions, int64_t longest) {
  const int64_t count = std::max<int64_t>(1, ceil_div(positions, longest));
  return {count, ceil_div(positions, count)};
}

Tensor pad_positions(const Tensor& x, int64_t before, int64_t after) {
  if (before == 0 && after == 0) return x;
  return at::constant_pad_nd(x, {0, 0, before, after}, 0);
}

Tensor query_blocks(const Tensor& query, int64_t num_kv_heads, const Blocks& blocks) {
  const auto [n, c] = blocks;
  const int64_t batch = query.size(0), shared = query.size(1) / num_kv_heads, width = query.size(3);
  return pad_positions(query, 0, blocks.padded() - query.size(2))
      .reshape({batch, num_kv_heads, shared, n, c, width})
      .transpose(2, 3)
      .reshape({batch, num_kv_heads, n, shared * c, width});
}

Tensor joined_blocks(const Tensor& blocked, int64_t num_heads, int64_t positions) {
  const int64_t batch = blocked.size(0), num_kv_heads = blocked.size(1), n = blocked.size(2), width = blocked.size(4);
  const int64_t shared = num_heads / num_kv_heads, c = blocked.size(3) / shared;
  const auto joined = blocked.reshape({batch, num_kv_heads, n, shared, c, width})
                          .transpose(2, 3)
                          .reshape({batch, num_heads, n * c, width});
  return n * c == positions ? joined : joined.narrow(2, 0, positions);
}

Tensor key_blocks(const Tensor& key, const Blocks& blocks) {
  return pad_positions(key, 0, blocks.padded() - key.size(2))
      .reshape({key.size(0), key.size(1), blocks.count, blocks.length, key.size(3)});
}

torch::ScalarType accumulation_type(torch::ScalarType type) {
  return type == torch::kBFloat16 || type == torch::kFloat16 ? torch::kFloat32 : type;
}

CallSizes checked_sizes(const char* variant, const Inputs& in, const Geometry& geometry, bool self_attention) {
  const auto letters =
      self_attention
          ? check_shapes(variant,
                         {{"query", in.query, "B H T D"}, {"key", in.key, "B G T D"}, {"value", in.value, "B G T E"}})
          : check_shapes(variant,
                         {{"query", in.query, "B H T D"}, {"key", in.key, "B G S D"}, {"value", in.value, "B G S E"}});
  const CallSizes sizes{.batch = letters.at("B"),
                        .heads = letters.at("H"),
                        .kv_heads = letters.at("G"),
                        .queries = letters.at("T"),
                        .keys = letters.at(self_attention ? "T" : "S"),
                        .key_width = letters.at("D"),
                        .value_width = letters.at("E")};
  if (sizes.heads != geometry.num_heads || sizes.kv_heads != geometry.num_kv_heads ||
      sizes.key_width != geometry.head_dim || sizes.value_width != geometry.value_dim)
    throw ShapeError(fmt::format(
        "{}: {} heads, {} key-value heads, key width {}, value width {}; it was built for {}, {}, {} and {}", variant,
        sizes.heads, sizes.kv_heads, sizes.key_width, sizes.value_width, geometry.num_heads, geometry.num_kv_heads,
        geometry.head_dim, geometry.value_dim));
  if (in.key_padding.defined() && (in.key_padding.sizes() != at::IntArrayRef{sizes.batch, sizes.keys} ||
                                   in.key_padding.scalar_type() != torch::kBool))
    throw ShapeError(fmt::format("{}: key_padding must be bool [{}, {}]", variant, sizes.batch, sizes.keys));
  return sizes;
}

}  // namespace attnscale

#include "attention/routed_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ops/arange.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>

#include "attention/blocks.h"
#include "attention/gather_rows.h"

namespace attnscale {
namespace {

constexpr double routed_nothing = -std::numeric_limits<double>::infinity();

/// Queries in a tile: as many as a block has keys, within what makes a matrix product worth its overhead.
int64_t tile_length(int64_t block) { return std::clamp<int64_t>(block, 16, 64); }

/// Most tiles that P pairs over n blocks can need: sum_j ceil(P_j / L) <= (P + n' (L - 1)) / L for n' <= min(n, P).
int64_t most_tiles(int64_t pairs, int64_t blocks, int64_t length) {
  return (pairs + std::min(pairs, blocks) * (length - 1)) / length;
}

/// Where pairs of query and block go, N rows of P pairs.
struct Tiles {
  Tensor pair;   ///< [N, M L], the pair in each slot (any pair in an empty one)
  Tensor block;  ///< [N, M], the block of each tile
  Tensor slot;   ///< [N, P], the slot of each pair
};

/// @param chosen  [N, P], 0 .. n - 1; n for a pair that is none
Tiles tiles_for(const Tensor& chosen, int64_t n, int64_t length) {
  const int64_t rows = chosen.size(0), pairs = chosen.size(1), tiles = most_tiles(pairs, n, length);
  const auto options = chosen.options();
  const auto order = at::argsort(chosen, /*stable=*/true, 1, false);  // [N, P]
  const auto block = chosen.gather(1, order);                         // ascending
  const auto counts = at::zeros({rows, n + 1}, options).scatter_add(1, chosen, at::ones_like(chosen));
  const auto first_pair = counts.cumsum(1) - counts;                               // [N, n + 1]
  const auto used = (counts.narrow(1, 0, n) + (length - 1)).div(length, "floor");  // [N, n]
  const auto tile_end = used.cumsum(1);                                            // [N, n]
  const auto first_slot = at::cat({tile_end - used, at::full({rows, 1}, tiles, options)}, 1) * length;
  // Pairs that are none all go to one slot behind the last tile.
  const auto rank = (at::arange(pairs, options) - first_pair.gather(1, block)).masked_fill(block == n, 0);
  const auto slot = first_slot.gather(1, block) + rank;  // [N, P], of sorted pairs
  const auto places = at::arange(tiles, options).expand({rows, tiles}).contiguous();
  return {.pair = at::zeros({rows, tiles * length + 1}, options).scatter(1, slot, order).narrow(1, 0, tiles * length),
          .block = at::searchsorted(tile_end, places, false, /*right=*/true).clamp_max(n - 1),
          .slot = at::empty_like(slot).scatter(1, order, slot)};
}

/// Every query with each block that it chose, apart.
/// @param query [N, Q, D] scaled, key [N, n, c, D], value [N, n, c, E], present bool [N, n, c] or undefined,
///              chosen [N, Q, J]
/// @return      [N, Q, J, E] and [N, Q, J]
PartialAttention chosen_parts(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& present,
                              const Tensor& chosen) {
  const int64_t rows = query.size(0), queries = query.size(1), each = chosen.size(2);
  const int64_t n = key.size(1), c = key.size(2), length = tile_length(c);
  const auto tiles = tiles_for(chosen.reshape({rows, queries * each}), n, length);
  const int64_t m = tiles.block.size(1);
  const auto tiled = gather_rows(query, tiles.pair.div(each, "floor")).view({rows * m, length, query.size(2)});
  const auto taken = [&](const Tensor& x) {
    return gather_rows(x.flatten(2), tiles.block).view({rows * m, c, x.size(3)});
  };
  Tensor visible;
  if (present.defined()) visible = taken(present.unsqueeze(-1)).mT();  // [N M, 1, c]
  const auto part = partial_attention(at::matmul(tiled, taken(key).mT()), visible, taken(value));
  const auto none = (chosen == n);  // [N, Q, J]
  const auto slot = tiles.slot.clamp_max(m * length - 1);
  const auto output = gather_rows(part.output.view({rows, m * length, value.size(3)}), slot);
  const auto log_sum = gather_rows(part.log_sum.view({rows, m * length, 1}), slot);
  return {.output = output.view({rows, queries, each, -1}).masked_fill(none.unsqueeze(-1), 0),
          .log_sum = log_sum.view({rows, queries, each}).masked_fill(none, routed_nothing)};
}

/// The own block: [B, H, T, E] and [B, H, T, 1].
PartialAttention own_part(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& present,
                          bool causal, int64_t heads, int64_t positions) {
  const int64_t n = key.size(2), c = key.size(3), shared = query.size(3) / c;
  const auto place = at::arange(c, torch::dtype(torch::kInt64).device(query.device()));
  auto visible = (at::arange(n * c, place.options()) < positions).view({1, 1, n, 1, c});
  if (present.defined()) visible = present.unsqueeze(1).unsqueeze(3);                     // [B, 1, n, 1, c]
  if (causal) visible = visible.logical_and(place.repeat(shared).unsqueeze(1) >= place);  // [.., n, R c, c]
  const auto part = partial_attention(at::matmul(query, key.mT()), visible, value);
  return {.output = joined_blocks(part.output, heads, positions),
          .log_sum = joined_blocks(part.log_sum.unsqueeze(-1), heads, positions)};
}

}  // namespace

PartialAttention partial_attention(const Tensor& logits, const Tensor& visible, const Tensor& value) {
  if (!visible.defined()) {
    const auto log_sum = at::logsumexp(logits, {-1}, true);
    return {.output = at::matmul(at::exp(logits - log_sum), value), .log_sum = log_sum.squeeze(-1)};
  }
  // A row that sees nothing takes everything instead, so that all stays finite, and is replaced afterwards.
  const auto blind = visible.any(-1, true).logical_not();
  const auto masked = logits.masked_fill(visible.logical_or(blind).logical_not(), routed_nothing);
  const auto log_sum = at::logsumexp(masked, {-1}, true);
  const auto output = at::matmul(at::exp(masked - log_sum), value).masked_fill(blind, 0);
  return {.output = output, .log_sum = log_sum.masked_fill(blind, routed_nothing).squeeze(-1)};
}

Tensor joined_parts(const Tensor& outputs, const Tensor& log_sums) {
  const auto blind = log_sums.amax(-1, true) == routed_nothing;
  const auto weights = at::softmax(log_sums.masked_fill(blind, 0), -1);
  return (outputs * weights.unsqueeze(-1)).sum(-2).masked_fill(blind, 0);
}

Tensor routed_attention(const Inputs& in, int64_t block, bool causal, const Tensor& chosen) {
  const int64_t batch = in.query.size(0), heads = in.query.size(1), positions = in.query.size(2);
  const int64_t groups = in.key.size(1);
  const Blocks blocks{ceil_div(positions, block), std::min(block, positions)};
  const auto query = in.query / std::sqrt(static_cast<double>(in.query.size(3)));
  const auto key = key_blocks(in.key, blocks), value = key_blocks(in.value, blocks);  // [B, G, n, c, .]
  Tensor present;                                                                     // [B, n, c]
  if (in.key_padding.defined()) present = key_blocks(per_key(in.key_padding), blocks).select(1, 0).squeeze(-1);
  const auto own = own_part(query_blocks(query, groups, blocks), key, value, present, causal, heads, positions);
  const int64_t each = chosen.defined() ? chosen.size(3) : 0;
  if (each == 0) return own.output;

  const auto flat = [&](const Tensor& x) { return x.flatten(0, 1); };
  // A last block that is not full has keys that are none.
  if (!causal && !present.defined() && blocks.padded() > positions)
    present =
        (at::arange(blocks.padded(), chosen.options()) < positions).view({1, blocks.count, -1}).expand({batch, -1, -1});
  if (present.defined()) present = present.repeat_interleave(groups, 0);
  const auto parts =
      chosen_parts(query.reshape({batch * groups, heads / groups * positions, -1}), flat(key), flat(value), present,
                   chosen.reshape({batch * groups, heads / groups * positions, each}));
  const std::vector<int64_t> by_head = {batch, heads, positions, each};
  const auto outputs = parts.output.view({batch, heads, positions, each, -1});
  return joined_parts(at::cat({own.output.unsqueeze(3), outputs}, 3),
                      at::cat({own.log_sum, parts.log_sum.view(by_head)}, 3));
}

Tensor routed_mask(const Tensor& chosen, int64_t queries, int64_t keys, int64_t block, torch::Device device) {
  const auto options = torch::TensorOptions().dtype(torch::kInt64).device(device);
  const auto query_at = at::arange(keys - queries, keys, options).unsqueeze(1), key_at = at::arange(keys, options);
  const auto of_key = key_at.div(block, "floor");                                            // [S]
  const auto own = of_key.eq(query_at.div(block, "floor")).logical_and(key_at <= query_at);  // [T, S]
  if (!chosen.defined()) return own;
  const auto picked = at::zeros({chosen.size(0), chosen.size(1), queries, ceil_div(keys, block) + 1}, own.options())
                          .scatter(3, chosen, true);  // by block; the last stands for none
  return picked.index_select(3, of_key).logical_or(own);
}

RoutedWork routed_work(const Geometry& geometry, int64_t positions, int64_t block, int64_t num_chosen) {
  const Blocks blocks{ceil_div(positions, block), std::min(block, positions)};
  const double c = blocks.length, heads = geometry.num_heads;
  RoutedWork work{.own_pairs = heads * static_cast<double>(blocks.padded()) * c};
  if (num_chosen > 0) {
    const int64_t pairs = geometry.num_heads / geometry.num_kv_heads * positions * num_chosen;
    const int64_t length = tile_length(blocks.length);
    work.chosen_pairs =
        static_cast<double>(geometry.num_kv_heads * most_tiles(pairs, blocks.count, length) * length) * c;
  }
  return work;
}

double routed_kept(const Geometry& geometry, int64_t positions, int64_t block, int64_t num_chosen) {
  const auto work = routed_work(geometry, positions, block, num_chosen);
  const double c = std::min(block, positions), d = geometry.head_dim, e = geometry.value_dim;
  const double heads = geometry.num_heads, tiled = work.chosen_pairs / c,
               length = tile_length(std::min(block, positions));
  // Logits and weights; tiled queries, their outputs and blocks; the outputs of each choice; the scaled query.
  return 2 * work.pairs() + tiled * (d + e) + tiled / length * c * (d + e) +
         heads * static_cast<double>(positions) * (static_cast<double>(num_chosen) * e + d + e);
}

}  // namespace attnscale

#include "attention/block_gather.h"

#include <algorithm>
#include <bit>
#include <map>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include "attention/blocks.h"
#include "attention/masks.h"
#include "tensor/kernels/attention_kernel.h"

namespace attnscale {
namespace {

/// 1, 2, 3, 4, 6, 8, 12, 16, ...: the least of them that is not below `count`.
int64_t rounded_width(int64_t count) {
  if (count <= 2) return std::max<int64_t>(count, 1);
  const auto power = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(count)));
  return count <= power / 4 * 3 ? power / 4 * 3 : power;
}

/// How the newest T of S positions are cut into rows of the pattern. Queries inside one block are one
/// row of T; otherwise rows are whole blocks, filled up on both sides.
struct PatternRows {
  int64_t first, count, length, front;
  PatternRows(int64_t queries, int64_t keys, int64_t c)
      : first((keys - queries) / c),
        count((keys - 1) / c - first + 1),
        length(count == 1 ? queries : c),
        front(count == 1 ? 0 : (keys - queries) % c) {}
};

/// Rows (counted from `rows.first`) and the key blocks each reads, by rounded width.
using RowsByWidth = std::map<int64_t, std::vector<std::pair<int64_t, std::vector<int64_t>>>>;
RowsByWidth by_width(const BlockPattern& pattern, const PatternRows& rows, int64_t blocks) {
  RowsByWidth result;
  for (int64_t i = 0; i < rows.count; ++i) {
    auto list = pattern.key_blocks(rows.first + i, blocks);
    result[rounded_width(std::ssize(list))].emplace_back(i, std::move(list));
  }
  return result;
}

/// sum_{t < T} min(t, most)
double capped_sum_of(int64_t positions, int64_t most) {
  const double growing = static_cast<double>(std::min(positions, most + 1));
  return growing * (growing - 1) / 2 + (static_cast<double>(positions) - growing) * static_cast<double>(most);
}

/// The pattern of `positions` queries and keys by tiles of 64, as the kernel takes it.
std::shared_ptr<const TileLayout> tile_layout(const BlockPattern& pattern, int64_t positions) {
  constexpr int64_t side = 64;
  const int64_t c = pattern.block_length, blocks = ceil_div(positions, c), tiles = ceil_div(positions, side);
  auto layout = std::make_shared<TileLayout>();
  for (int64_t first = 0; first < positions; first += side) {
    const int64_t last = std::min(first + side, positions);
    std::vector<std::vector<int64_t>> lists;  // of the rows of the pattern that lie in this tile
    std::vector<int64_t> place(static_cast<size_t>(tiles), -1), met;
    for (int64_t row = first / c; row * c < last; ++row) {
      lists.push_back(pattern.key_blocks(row, blocks));
      for (const auto block : lists.back())
        for (int64_t at = block * c / side; at * side < std::min((block + 1) * c, positions); ++at)
          place[static_cast<size_t>(at)] = 0;
    }
    for (int64_t at = 0; at < tiles; ++at)
      if (place[static_cast<size_t>(at)] == 0) place[static_cast<size_t>(at)] = std::ssize(met), met.push_back(at);
    const auto keys =
        (at::tensor(met, torch::kInt64).unsqueeze(1) * side + at::arange(side, torch::kInt64)).view({1, -1});
    const auto visible = pattern.visible(at::arange(first, last, torch::kInt64).unsqueeze(1), keys)
                             .expand({last - first, keys.size(1)})
                             .contiguous();
    const auto* pairs = visible.const_data_ptr<bool>();
    std::vector<uint64_t> seen(met.size() * side, 0);
    for (int64_t t = first; t < last; ++t, pairs += keys.size(1))
      for (const auto block : lists[static_cast<size_t>(t / c - first / c)])
        for (int64_t key = block * c; key < std::min((block + 1) * c, positions); ++key) {
          const int64_t at = place[static_cast<size_t>(key / side)], bit = key % side;
          seen[static_cast<size_t>(at * side + t - first)] |= static_cast<uint64_t>(pairs[at * side + bit]) << bit;
        }
    layout->append(met, seen);
  }
  return layout;
}

}  // namespace

PatternAttention::Tiles PatternAttention::tiles(int64_t positions) const {
  const std::scoped_lock lock(guard_);
  if (latest_.positions != positions)
    latest_ = {positions, tile_layout(pattern_, positions), pattern_work(pattern_, positions).pairs};
  return latest_;
}

Tensor PatternAttention::forward(const Inputs& in) const {
  const auto& pattern = pattern_;
  const int64_t batch = in.query.size(0), heads = in.query.size(1), queries = in.query.size(2);
  const int64_t groups = in.key.size(1), keys = in.key.size(2), c = pattern.block_length;
  if (queries == keys && !in.key_padding.defined())
    if (const auto dtype = attention_dtype(in.query, in.key, in.value)) {
      const auto laid = tiles(keys);
      return attention_kernel(in.query, in.key, in.value, laid.layout, laid.pairs, *dtype);
    }
  const PatternRows rows(queries, keys, c);
  const Blocks key_layout{ceil_div(keys, c), c};
  const int64_t len = rows.length;
  const auto query = query_blocks(pad_positions(in.query, rows.front, rows.count * len - rows.front - queries), groups,
                                  {rows.count, len});                                         // [B, G, n, R len, D]
  const auto key = key_blocks(in.key, key_layout), value = key_blocks(in.value, key_layout);  // [B, G, m, c, .]
  Tensor real;                                                                                // [B, m, c]
  if (in.key_padding.defined()) real = key_blocks(per_key(in.key_padding), key_layout).select(1, 0).squeeze(-1);

  const auto options = torch::TensorOptions().dtype(torch::kInt64).device(in.query.device());
  const auto first_query = keys - queries - rows.front;  // position of the first row's first place
  std::vector<Tensor> outputs;
  std::vector<int64_t> order;
  for (const auto& [width, members] : by_width(pattern, rows, key_layout.count)) {
    const int64_t m = std::ssize(members), gathered = width * c;
    std::vector<int64_t> blocks, row_index;
    for (const auto& [row, list] : members) {
      row_index.push_back(row);
      blocks.insert(blocks.end(), list.begin(), list.end());
      blocks.resize(static_cast<size_t>(std::ssize(row_index) * width), -1);  // absent
    }
    order.insert(order.end(), row_index.begin(), row_index.end());
    const auto block = at::tensor(blocks, options);                               // [m width]
    const auto taken = block.clamp_min(0), row = at::tensor(row_index, options);  // [m width], [m]
    const auto place = at::arange(c, options);
    const auto key_at = at::where(block.unsqueeze(1) < 0, keys, block.unsqueeze(1) * c + place).view({m, 1, gathered});
    const auto query_at =
        (first_query + row.unsqueeze(1) * len + at::arange(len, options)).unsqueeze(-1);    // [m, len, 1]
    auto mask = pattern.visible(query_at, key_at).logical_and(key_at < keys).unsqueeze(0);  // [1, m, len, W]
    if (real.defined()) {
      const auto present = real.index_select(1, taken).view({batch, m, 1, gathered});
      mask = mask.logical_and(present).repeat_interleave(groups, 0);  // [B G, m, len, W]
    }
    if (heads > groups)
      mask = mask.unsqueeze(2).expand({-1, -1, heads / groups, -1, -1}).flatten(2, 3);  // [.., m, R len, W]
    const auto pick = [&](const Tensor& x) {
      return x.index_select(2, taken).view({batch * groups, m, gathered, x.size(4)});
    };
    const auto own = m == rows.count ? query : query.index_select(2, row);
    outputs.push_back(softmax_attention(own.flatten(0, 1), pick(key), pick(value), false, mask));
  }
  auto output = outputs.size() == 1 ? outputs.front() : at::cat(outputs, 1);  // [B G, n, R len, E]
  if (outputs.size() > 1) {
    std::vector<int64_t> back(order.size());
    for (size_t i = 0; i < order.size(); ++i) back[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
    output = output.index_select(1, at::tensor(back, options));
  }
  const auto joined = joined_blocks(output.unflatten(0, {batch, groups}), heads, rows.count * len);
  return joined.size(2) == queries ? joined : joined.narrow(2, rows.front, queries);
}

PatternWork pattern_work(const BlockPattern& pattern, int64_t positions) {
  const PatternRows rows(positions, positions, pattern.block_length);
  const int64_t blocks = ceil_div(positions, pattern.block_length);
  PatternWork work;
  for (int64_t i = 0; i < rows.count; ++i)
    work.gathered += static_cast<double>(rounded_width(std::ssize(pattern.key_blocks(i, blocks))));
  work.gathered *= static_cast<double>(pattern.block_length);
  work.pairs = work.gathered * static_cast<double>(rows.length);
  return work;
}

Cost pattern_cost(const PatternWork& work, double visible, const Geometry& geometry, const Sizes& sizes) {
  const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
  const double both = geometry.head_dim + geometry.value_dim;
  // Gathered keys and values, the mask, one normaliser per query; unequal widths keep the weights too.
  double kept = batch * groups * work.gathered * both + work.pairs + batch * heads * sizes.queries;
  if (geometry.head_dim != geometry.value_dim) kept += batch * heads * work.pairs;
  return {.algorithmic_flops = 2 * batch * heads * visible * both,
          .executed_flops = 2 * batch * heads * work.pairs * both,
          .activation_bytes = static_cast<int64_t>(float_bytes * kept)};
}

double block_pairs(const BlockPattern& pattern, int64_t positions, bool causal) {
  const int64_t c = pattern.block_length, blocks = ceil_div(positions, c);
  double pairs = 0;
  for (int64_t row = 0; row < blocks; ++row) {
    const auto length = [&](int64_t block) { return static_cast<double>(std::min(c, positions - block * c)); };
    for (const int64_t block : pattern.key_blocks(row, blocks))
      pairs += causal && block == row ? length(row) * (length(row) + 1) / 2 : length(row) * length(block);
  }
  return pairs;
}

BlockPattern band_pattern(int64_t behind, int64_t ahead) {
  const auto wanted = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>((behind + ahead) / 2 + 1)));
  const int64_t c = std::clamp<int64_t>(wanted, 16, 128);
  return {.block_length = c,
          .key_blocks =
              [=](int64_t row, int64_t rows) {
                const int64_t first = std::max<int64_t>(0, row * c - behind) / c;
                const int64_t last = std::min(rows - 1, (row * c + c - 1 + ahead) / c);
                std::vector<int64_t> list;
                for (int64_t block = first; block <= last; ++block) list.push_back(block);
                return list;
              },
          .visible =
              [=](const Tensor& query, const Tensor& key) {
                const auto distance = key - query;
                return distance.ge(-behind).logical_and(distance.le(ahead));
              }};
}

double band_pairs(int64_t positions, int64_t behind, int64_t ahead) {
  return static_cast<double>(positions) + capped_sum_of(positions, behind) + capped_sum_of(positions, ahead);
}

}  // namespace attnscale

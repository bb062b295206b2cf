// Native sparse attention: a gated sum of three looks at the past, at compressed blocks, at the blocks that these
// say matter, and at a window. Yuan et al. 2025, arXiv:2502.11089, section 3.
//
// B batch, H heads, G key-value heads, R = H / G, T queries, S keys, l compressed positions at a stride of d, m = slots
// of them, n selection blocks of c positions, D key width, E value width
//
// Not here: keys and values projected anew for each branch (section 3.3.3, last lines): one key and value serve all
// three.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <tuple>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "attention/block_gather.h"
#include "attention/blocks.h"
#include "attention/compressed_slots.h"
#include "attention/key_value_state.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "attention/routed_blocks.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

/// y_t = sigma(g_1) compressed_t + sigma(g_2) selected_t + sigma(g_3) window_t, each a softmax attention of q_t:
/// - compressed: over k'_j = b + sum_{i<l} k_{jd+i} W_i, v'_j likewise, for complete slots jd + l - 1 <= t; zeros
/// before.
/// - selected: over the own block up to t and the selected_blocks - 1 earlier blocks of most importance.
/// - window: over the latest `window` keys.
/// The importance of a block is the weight that the compressed branch gives it, summed over the heads that share the
/// key: each slot's weight counts for every d positions it shares with the block (equation 9 with the slots that
/// overlap the block; its printed indices run into the block before). The block just before the own one, then
/// the first block, go before all others (the paper keeps one first and two local blocks). The choice has no gradient.
///
/// The paper's compressing MLP is one layer here, which holds its position encoding; it starts as the mean of the
/// block. Gates are projected from the residual stream.
class NativeSparse : public Attention {
 public:
  struct Options {
    int64_t compress_length = 32;
    int64_t compress_stride = 16;
    int64_t block = 64;
    int64_t selected_blocks = 16;
    int64_t window = 512;
    static Fields fields() {
      return {field(&Options::compress_length, "compress_length", "positions that a compressed key stands for")
                  .between(1, 4096)
                  .in("positions"),
              field(&Options::compress_stride, "compress_stride",
                    "distance from one compressed key to the next; divides compress_length and block")
                  .between(1, 4096)
                  .in("positions"),
              field(&Options::block, "block", "positions in a block that can be selected; not below compress_length")
                  .between(1, 65536)
                  .in("positions"),
              field(&Options::selected_blocks, "selected_blocks", "blocks that a query selects, its own included")
                  .at_least(1)
                  .in("blocks"),
              field(&Options::window, "window", "latest keys that a query sees, its own included")
                  .at_least(1)
                  .in("positions")};
    }
  };

  NativeSparse(const Options& options, const Geometry& geometry)
      : Attention(geometry), options_(options), band_(band_pattern(options.window - 1, 0)) {
    const auto made = [&](const std::string& name, int64_t width) {
      const int64_t groups = geometry.num_kv_heads, l = options_.compress_length;
      const auto mean = (at::eye(width) / static_cast<double>(l)).repeat({groups, l, 1});  // [G, l D, D]
      return SlotCompressor{l, options_.compress_stride, register_parameter("compress_" + name + "_weight", mean),
                            register_parameter("compress_" + name + "_bias", at::zeros({groups * width}))};
    };
    key_ = made("key", geometry.head_dim);
    value_ = made("value", geometry.value_dim);
  }

  static std::vector<std::string> refusals(const Options& o, const Geometry&) {
    std::vector<std::string> reasons;
    if (o.compress_length % o.compress_stride != 0 || o.block % o.compress_stride != 0)
      reasons.push_back(
          fmt::format("compress_stride {} does not divide compress_length {} and block {}; take a divisor "
                      "of both",
                      o.compress_stride, o.compress_length, o.block));
    if (o.block < o.compress_length)
      reasons.push_back(fmt::format("block {} is shorter than compress_length {}; set block to {} or more", o.block,
                                    o.compress_length, o.compress_length));
    return reasons;
  }

  static std::vector<Gate> gates(const Options&, const Geometry&) { return {{.name = "branches", .width = 3}}; }
  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    const auto of = [&](int64_t width) { return (options.compress_length * width + 1) * width; };
    return geometry.num_kv_heads * (of(geometry.head_dim) + of(geometry.value_dim));
  }

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("native_sparse", in, geometry_, true);
    const FullPrecision sums_stay_float32;
    const auto type = accumulation_type(in.value.scalar_type());
    const Inputs exact{
        .query = in.query.to(type), .key = in.key.to(type), .value = in.value.to(type), .key_padding = in.key_padding};
    auto key = exact.key, value = exact.value;
    if (in.key_padding.defined()) {
      key = key * per_key(in.key_padding);
      value = value * per_key(in.key_padding);
    }
    const auto slot_real = in.key_padding.defined() ? key_.any_real(in.key_padding) : Tensor();  // bool [B, m]
    const auto [compressed, weights] = compressed_branch(exact.query, key_(key), value_(value), slot_real, 0);
    Tensor chosen;
    if (const int64_t each = num_chosen(options_, sizes.queries); each > 0) {
      const torch::NoGradGuard choosing_has_no_gradient;
      const Blocks blocks{ceil_div(sizes.keys, options_.block), options_.block};
      const auto block_real = in.key_padding.defined()
                                  ? key_blocks(per_key(in.key_padding), blocks).any(3).view({sizes.batch, -1})
                                  : Tensor();
      chosen = best(weights, blocks.count, block_real, 0, each);  // [B, G, T, J]
      chosen = repeat_heads(chosen, sizes.heads);
    }
    const auto selected = routed_attention(exact, options_.block, true, chosen);
    const auto window = band_.forward(in);
    return gated(in.gates.at("branches").to(type), compressed, selected, window).to(in.value.scalar_type());
  }

  /// Every key and value so far, and the compressed ones of the complete slots.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    auto state = empty_key_value_state(geometry_, batch, options);
    const auto type = accumulation_type(c10::typeMetaToScalarType(options.dtype()));
    const auto slots = empty_key_value_state(geometry_, batch, options.dtype(type));
    state.tensors["key_slots"] = slots.tensors.at("key");
    state.tensors["value_slots"] = slots.tensors.at("value");
    return state;
  }

  /// From an empty state as in `forward`; later, the selected branch computes all logits of the new queries and hides
  /// those outside the selected blocks.
  Tensor decode(const Inputs& in, State& state) override {
    const auto sizes = checked_sizes("native_sparse", in, geometry_, true);
    const FullPrecision sums_stay_float32;
    const auto type = accumulation_type(in.value.scalar_type());
    const int64_t before = state.length;
    const auto all = appended(in, state);
    const auto extend = [&](Tensor& slots, const Tensor& x, const SlotCompressor& compressor) {
      const int64_t from = slots.size(2) * options_.compress_stride;
      slots = at::cat({slots, compressor(x.narrow(2, from, state.length - from).to(type))}, 2);
    };
    auto& key_slots = state.tensors.at("key_slots");
    auto& value_slots = state.tensors.at("value_slots");
    extend(key_slots, all.key, key_);
    extend(value_slots, all.value, value_);
    if (before == 0) return forward(in);

    const auto [compressed, weights] = compressed_branch(in.query.to(type), key_slots, value_slots, {}, before);
    const int64_t blocks = ceil_div(state.length, options_.block), each = num_chosen(options_, state.length);
    const auto chosen = each > 0 ? best(weights, blocks, {}, before, each) : Tensor();  // [B, G, T, J]
    auto seen = routed_mask(chosen, sizes.queries, state.length, options_.block, in.query.device());
    if (each > 0) seen = repeat_heads(seen, sizes.heads);
    const auto selected = softmax_attention(in.query, all.key, all.value, false, seen);
    const int64_t latest = std::min(state.length, options_.window - 1 + sizes.queries), skipped = state.length - latest;
    const auto window = band_.forward(
        {.query = in.query, .key = all.key.narrow(2, skipped, latest), .value = all.value.narrow(2, skipped, latest)});
    return gated(in.gates.at("branches").to(type), compressed, selected, window).to(in.value.scalar_type());
  }

  Tensor oracle(const Inputs& in) const override;

  static Cost cost(const Options& o, const Geometry& geometry, const Sizes& sizes) {
    const int64_t each = num_chosen(o, sizes.queries), slots = num_slots(o, sizes.keys), c = o.block;
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads, t = sizes.queries;
    const double d = geometry.head_dim, e = geometry.value_dim, m = slots, both = d + e;
    const auto work = routed_work(geometry, sizes.queries, c, each);
    const auto window = pattern_work(band_pattern(o.window - 1, 0), sizes.queries);
    double visible = band_pairs(sizes.queries, o.window - 1, 0);
    for (int64_t at = 0; at < sizes.queries; ++at) {
      visible += static_cast<double>(num_slots(o, at + 1) + at % c + 1 + std::min(each, at / c) * c);
    }
    const double shortening = 2 * batch * groups * m * static_cast<double>(o.compress_length) * (d * d + e * e);
    auto cost = pattern_cost(window, 0, geometry, sizes);
    cost.algorithmic_flops = 2 * batch * heads * visible * both + shortening;
    cost.executed_flops += 2 * batch * both * (heads * t * m + work.pairs()) + shortening;
    // Logits and weights of the slots, overlapping blocks laid out, slots, and each branch's output.
    const double kept = 2 * heads * t * m + groups * m * static_cast<double>(o.compress_length + 1) * both +
                        heads * t * (3 * e + d + 3);
    cost.activation_bytes +=
        static_cast<int64_t>(float_bytes * batch * (kept + routed_kept(geometry, sizes.queries, c, each)));
    cost.state_bytes =
        key_value_bytes(geometry, sizes.batch, sizes.keys) + key_value_bytes(geometry, sizes.batch, slots);
    return cost;
  }

 private:
  struct Compressed {
    Tensor output;   // [B, H, T, E]
    Tensor weights;  // [B, H, T, m]
  };

  static int64_t num_slots(const Options& o, int64_t keys) {
    return SlotCompressor::num_slots(keys, o.compress_length, o.compress_stride);
  }
  static int64_t num_chosen(const Options& o, int64_t positions) {
    return std::min(o.selected_blocks, ceil_div(positions, o.block)) - 1;
  }

  /// Queries begin at position `first`.
  Compressed compressed_branch(const Tensor& query, const Tensor& key_slots, const Tensor& value_slots,
                               const Tensor& slot_real, int64_t first) const {
    const int64_t batch = query.size(0), heads = query.size(1), queries = query.size(2), slots = key_slots.size(2);
    const int64_t groups = key_slots.size(1);
    const auto options = torch::TensorOptions().dtype(torch::kInt64).device(query.device());
    const auto last = at::arange(slots, options) * options_.compress_stride + (options_.compress_length - 1);  // [m]
    auto visible = last <= at::arange(first, first + queries, options).unsqueeze(1);                           // [T, m]
    if (slot_real.defined()) visible = visible.logical_and(slot_real.view({batch, 1, 1, slots}));
    const auto grouped =
        (query / std::sqrt(static_cast<double>(query.size(3)))).reshape({batch, groups, -1, query.size(3)});
    const auto logits = at::matmul(grouped, key_slots.mT()).view({batch, heads, queries, slots});
    if (slots == 0) return {at::zeros({batch, heads, queries, value_slots.size(3)}, query.options()), logits};
    const auto blind = visible.any(-1, true).logical_not();
    const auto hidden = visible.logical_or(blind).logical_not();
    const auto weights =
        at::softmax(logits.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1).masked_fill(blind, 0);
    const auto output = at::matmul(weights.view({batch, groups, -1, slots}), value_slots);
    return {output.view({batch, heads, queries, -1}), weights};
  }

  /// The blocks that queries from position `first` on select beside their own: [B, G, T, J], n where there are fewer.
  Tensor best(const Tensor& weights, int64_t blocks, const Tensor& block_real, int64_t first, int64_t each) const {
    const int64_t batch = weights.size(0), queries = weights.size(2), slots = weights.size(3),
                  d = options_.compress_stride;
    const int64_t overlap = options_.compress_length / d, units = blocks * (options_.block / d);
    const auto shared = weights.detach().unflatten(1, {geometry_.num_kv_heads, -1}).sum(2);  // [B, G, T, m]
    auto by_unit = at::zeros({batch, shared.size(1), queries, units + overlap}, shared.options());
    for (int64_t i = 0; i < overlap; ++i) by_unit.narrow(3, i, slots).add_(shared);
    auto importance = by_unit.narrow(3, 0, units).unflatten(3, {blocks, -1}).sum(-1);  // [B, G, T, n]
    const auto options = torch::TensorOptions().dtype(torch::kInt64).device(weights.device());
    const auto own = at::arange(first, first + queries, options).div(options_.block, "floor").unsqueeze(1);  // [T, 1]
    const auto block = at::arange(blocks, options);
    constexpr double none = -std::numeric_limits<double>::infinity();
    importance = importance.masked_fill(block.expand({queries, blocks}) == 0, 1e30).masked_fill(block == own - 1, 2e30);
    auto out = block >= own;
    if (block_real.defined()) out = out.logical_or(block_real.logical_not().view({batch, 1, 1, blocks}));
    const auto [score, index] = at::topk(importance.masked_fill(out, none), each, -1);
    return index.masked_fill(score == none, blocks);
  }

  static Tensor gated(const Tensor& gates, const Tensor& compressed, const Tensor& selected, const Tensor& window) {
    const auto open = at::sigmoid(gates);  // [B, H, T, 3]
    return open.narrow(3, 0, 1) * compressed + open.narrow(3, 1, 1) * selected + open.narrow(3, 2, 1) * window;
  }

  Options options_;
  PatternAttention band_;
  SlotCompressor key_, value_;
};

Tensor NativeSparse::oracle(const Inputs& in) const {
  using namespace oracle;
  const auto& o = options_;
  const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
  const auto gates = rows_of(in.gates.at("branches"));
  std::vector<std::vector<bool>> real(static_cast<size_t>(in.key.size(0)));  // asked for often
  for (int64_t b = 0; b < in.key.size(0); ++b)
    for (int64_t i = 0; i < in.key.size(2); ++i) real[static_cast<size_t>(b)].push_back(is_real(in, b, i));
  const int64_t keys = in.key.size(2), shared = in.query.size(1) / in.key.size(1), width = in.value.size(3);
  const auto any_real = [&](int64_t b, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < std::min(end, keys); ++i)
      if (real[b][i]) return true;
    return false;
  };
  // Slots [D] or [E] of each batch row and head.
  const auto slots_of = [&](const Rows& x, const SlotCompressor& by) {
    const auto weights = in_double(by.weight).unbind(0), biases = in_double(by.bias).chunk(by.weight.size(0));
    Rows result;
    for (int64_t b = 0; b < std::ssize(x); ++b) {
      auto& of_row = result.emplace_back();
      for (int64_t g = 0; g < std::ssize(x[b]); ++g) {
        const auto of_place = weights[g].unflatten(0, {o.compress_length, -1}).unbind(0);
        auto& of_head = of_row.emplace_back();
        for (int64_t j = 0; j * o.compress_stride + o.compress_length <= keys; ++j) {
          auto sum = biases[g];
          for (int64_t i = 0; i < o.compress_length; ++i)
            if (real[b][j * o.compress_stride + i])
              sum = sum + at::mv(of_place[i].t(), x[b][g][j * o.compress_stride + i]);
          of_head.push_back(sum);
        }
      }
    }
    return result;
  };
  const auto key_slots = slots_of(key, key_), value_slots = slots_of(value, value_);
  const auto complete_slots = [&](int64_t b, int64_t t) {
    std::vector<int64_t> list;
    for (int64_t j = 0; j * o.compress_stride + o.compress_length - 1 <= t; ++j)
      if (any_real(b, j * o.compress_stride, j * o.compress_stride + o.compress_length)) list.push_back(j);
    return list;
  };
  // By head, [B][G]: matrices to take the rows that a query sees from.
  const auto stacked = [](const Rows& rows) {
    std::vector<std::vector<Tensor>> result;
    for (const auto& of_row : rows) {
      auto& heads = result.emplace_back();
      for (const auto& of_head : of_row) heads.push_back(of_head.empty() ? Tensor() : at::stack(of_head));
    }
    return result;
  };
  const auto keys_of = stacked(key), values_of = stacked(value);
  const auto slot_keys = stacked(key_slots), slot_values = stacked(value_slots);
  const auto attend_at = [&](const Tensor& q, const Tensor& k, const Tensor& v, const std::vector<int64_t>& places) {
    if (places.empty()) return at::zeros({width}, q.options());
    const auto at = torch::tensor(places);
    const auto logits = at::mv(k.index_select(0, at), q) / std::sqrt(static_cast<double>(q.size(0)));
    return at::mv(v.index_select(0, at).t(), at::softmax(logits, 0));
  };
  // Blocks that the heads of group g select at t.
  const auto select = [&](int64_t b, int64_t g, int64_t t) {
    const int64_t own = t / o.block;
    std::vector<double> importance(static_cast<size_t>(own + 1), 0.0);
    const auto slots = complete_slots(b, t);
    for (int64_t h = g * shared; !slots.empty() && h < (g + 1) * shared; ++h) {
      const auto logits = at::mv(slot_keys[b][g].index_select(0, torch::tensor(slots)), query[b][h][t]).detach();
      const auto weights = at::softmax(logits / std::sqrt(static_cast<double>(in.key.size(3))), 0).contiguous();
      const auto* weight = weights.const_data_ptr<double>();
      for (size_t s = 0; s < slots.size(); ++s)
        for (int64_t unit = 0; unit < o.compress_length; unit += o.compress_stride)
          importance[static_cast<size_t>((slots[s] * o.compress_stride + unit) / o.block)] += weight[s];
    }
    std::vector<std::pair<double, int64_t>> ranked;
    for (int64_t block = 0; block < own; ++block)
      if (any_real(b, block * o.block, (block + 1) * o.block))
        ranked.emplace_back(block == own - 1 ? -2e30
                            : block == 0     ? -1e30
                                             : -importance[static_cast<size_t>(block)],
                            block);
    std::sort(ranked.begin(), ranked.end());
    if (std::ssize(ranked) >= o.selected_blocks) ranked.resize(static_cast<size_t>(o.selected_blocks - 1));
    std::vector<int64_t> list = {own};
    for (const auto& [rank, block] : ranked) list.push_back(block);
    return list;
  };
  std::map<std::tuple<int64_t, int64_t, int64_t>, std::vector<int64_t>> selected;  // the same for all heads of a group
  return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
    const auto slots = complete_slots(b, t);
    const auto compressed = attend_at(query[b][h][t], slot_keys[b][g], slot_values[b][g], slots);
    const auto over = [&](const std::function<bool(int64_t)>& seen) {
      std::vector<int64_t> places;
      for (int64_t i = 0; i <= t; ++i)
        if (seen(i) && real[b][i]) places.push_back(i);
      return attend_at(query[b][h][t], keys_of[b][g], values_of[b][g], places);
    };
    auto& blocks = selected[{b, g, t}];
    if (blocks.empty()) blocks = select(b, g, t);
    const auto from_blocks = over([&](int64_t i) { return std::ranges::count(blocks, i / o.block) > 0; });
    const auto from_window = over([&](int64_t i) { return i > t - o.window; });
    const auto open = at::sigmoid(gates[b][h][t]);
    return open[0] * compressed + open[1] * from_blocks + open[2] * from_window;
  });
}

const Register<NativeSparse> register_native_sparse{{
    .name = "native_sparse",
    .family = "sparse",
    .summary =
        "gated sum of attention to compressed blocks, to the blocks these select, and to a window; one key and value "
        "for all three branches, compressed by a linear map",
    .equation =
        "y_t = sigma(g_1) compressed + sigma(g_2) selected + sigma(g_3) window; compressed: softmax over k'_j = "
        "b + sum_{i<l} k_{jd+i} W_i with jd + l - 1 <= t; selected: over the own and the selected_blocks - 1 "
        "earlier blocks that the compressed weights favour (first and previous block before others); window: "
        "over t - window < i <= t",
    .source = "Yuan et al. 2025, arXiv:2502.11089, section 3; one key and value for all branches",
    .traits = {Trait::causal, Trait::padding, Trait::incremental, Trait::grouped_heads, Trait::content_dependent},
    .time_complexity = "T (block selected_blocks + window) (D + E) + T^2 (D + E) / compress_stride",
    .state_complexity = "T (1 + 1 / compress_stride) (D + E)",
    .samples =
        {Json{{"compress_length", 4}, {"compress_stride", 2}, {"block", 8}, {"selected_blocks", 4}, {"window", 6}},
         Json{{"compress_length", 5}, {"compress_stride", 5}, {"block", 5}, {"selected_blocks", 3}, {"window", 20}},
         Json{{"compress_length", 8}, {"compress_stride", 4}, {"block", 16}, {"selected_blocks", 1}, {"window", 32}}},
}};

}  // namespace
}  // namespace attnscale

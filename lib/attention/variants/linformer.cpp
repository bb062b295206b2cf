// Linformer: keys and values are projected along the sequence to k slots, so that softmax attention is
// over k slots and not over all keys. Wang et al. 2020, arXiv:2006.04768, section 4, equation 7.
//
// B batch, H heads, G key-value heads, R = H / G, T queries, S keys, n blocks of c positions,
// k projected length, r slots of one block, M complete blocks, D key width, E value width, W either
//
// Not here: sharing E with F, with other layers, or projections that are not matrices (section 4).

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include <ATen/ops/arange.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/generated/variable_factories.h>

#include "attention/blocks.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "core/error.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

constexpr int64_t usual_compression = 4;

/// Bidirectional, as in the paper: y = softmax(q (E K)^T / sqrt(D)) F V; E and F are [k, context], shared by
/// the heads; of a shorter sequence the first S columns are used.
///
/// Causal, by blocks, which is not in the paper: there every slot mixes all positions, the future
/// included. Here E and F are block-diagonal: each complete block of c positions is projected to
/// r = ceil(k c / context) slots by its own [r, c] slice, and a query sees in one joint softmax
/// the slots of all blocks before its own and the raw keys of its own block up to itself. There are at
/// least context / c slots in all (r >= 1), so beyond context = k c a longer block is needed to keep to k.
///
/// Padded keys and values are zeros to the projection; slots of blocks without a real key are hidden,
/// and so are raw padded keys.
///
/// E and F start as N(0, 1 / k), per block N(0, 1 / r), as in the paper's proof (theorem 2).
class Linformer : public Attention {
 public:
  struct Options {
    std::optional<int64_t> projected_length;
    int64_t block_length = 16;
    static Fields fields() {
      return {field(&Options::projected_length, "projected_length",
                    "slots for a whole context, at most the context; left out: a quarter of the context")
                  .at_least(1),
              field(&Options::block_length, "block_length",
                    "block of the causal form: seen raw while open, as slots after that; bidirectional: no blocks")
                  .between(1, 65536)
                  .in("positions")};
    }
  };

  Linformer(const Options& options, const Geometry& geometry)
      : Attention(geometry), block_length_(options.block_length), block_slots_(slots_per_block(options, geometry)) {
    const auto shape = projection_shape(options, geometry);
    if (shape.front() == 0) return;  // one block holds the whole context
    const double spread = 1 / std::sqrt(static_cast<double>(shape[shape.size() - 2]));
    key_projection_ = register_parameter("key_projection", torch::randn(shape) * spread);
    value_projection_ = register_parameter("value_projection", torch::randn(shape) * spread);
  }

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("linformer", in, geometry_, geometry_.causal);
    check_context(sizes.keys);
    std::optional<FullPrecision> sums_stay_float32;
    if (geometry_.causal) sums_stay_float32.emplace();
    auto key = in.key, value = in.value;
    if (in.key_padding.defined()) {
      key = key * per_key(in.key_padding);
      value = value * per_key(in.key_padding);
    }
    if (geometry_.causal) return by_blocks(in, key, value, sizes);
    Tensor visible;
    if (in.key_padding.defined())  // [B, 1, 1, k]: all slots, or none in a row without real keys
      visible = in.key_padding.any(1).view({-1, 1, 1, 1}).expand({-1, 1, 1, key_projection_.size(0)});
    return softmax_attention(in.query, projected(key, key_projection_), projected(value, value_projection_), false,
                             visible);
  }

  /// Slots of the complete blocks, and the raw keys and values of the newest block, which stay raw
  /// until the position after it comes.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    if (!geometry_.causal) return Attention::new_state(batch, options);
    const auto empty = [&](int64_t width) { return at::empty({batch, geometry_.num_kv_heads, 0, width}, options); };
    return {.tensors = {{"key_slots", empty(geometry_.head_dim)},
                        {"value_slots", empty(geometry_.value_dim)},
                        {"block_keys", empty(geometry_.head_dim)},
                        {"block_values", empty(geometry_.value_dim)}}};
  }

  Tensor decode(const Inputs& in, State& state) override {
    const auto sizes = checked_sizes("linformer", in, geometry_, true);
    check_context(state.length + sizes.queries);
    std::vector<Tensor> outputs;
    for (int64_t from = 0; from < sizes.queries;) {  // the part that falls into one block
      const int64_t inside = state.length % block_length_;
      const int64_t taken = std::min(block_length_ - inside, sizes.queries - from);
      if (inside == 0 && state.length > 0) close_block(state);
      const auto append = [&](const char* name, const Tensor& x) {
        auto& raw = state.tensors.at(name);
        raw = at::cat({raw, x.narrow(2, from, taken)}, 2);
        return raw;
      };
      const auto keys = at::cat({state.tensors.at("key_slots"), append("block_keys", in.key)}, 2);
      const auto values = at::cat({state.tensors.at("value_slots"), append("block_values", in.value)}, 2);
      // Of these rows the newest `taken` are the queries' own; everything before is visible.
      outputs.push_back(softmax_attention(in.query.narrow(2, from, taken), keys, values, false,
                                          causal_mask(taken, keys.size(2), keys.device())));
      state.length += taken;
      from += taken;
    }
    return at::cat(outputs, 2);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const int64_t keys = in.key.size(2), c = geometry_.causal ? block_length_ : keys;
    std::vector<Tensor> slot_keys, slot_values;
    // Slots of one block: for each row of its projection, the sum over real positions of weight times row.
    const auto add_slots = [&](const Rows& x, const Tensor& all, int64_t b, int64_t g, int64_t block,
                               std::vector<Tensor>& slots) {
      std::vector<Tensor> real_rows;
      std::vector<int64_t> real;
      for (int64_t i = 0; i < c; ++i) {
        if (!is_real(in, b, block * c + i)) continue;
        real_rows.push_back(x[b][g][block * c + i]);
        real.push_back(i);
      }
      if (real.empty()) return;
      const auto rows = at::stack(real_rows);  // [real, W]
      const auto projection = in_double(geometry_.causal ? all[block] : all);
      for (const auto& weights : projection.index_select(1, torch::tensor(real, all.device())).unbind(0))
        slots.push_back(at::mv(rows.t(), weights));
    };
    const auto close = [&](int64_t b, int64_t g, int64_t block) {
      add_slots(key, key_projection_, b, g, block, slot_keys);
      add_slots(value, value_projection_, b, g, block, slot_values);
    };
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      if (t == 0) {  // a new head begins
        slot_keys.clear(), slot_values.clear();
        if (!geometry_.causal) close(b, g, 0);
      }
      if (geometry_.causal && t > 0 && t % c == 0) close(b, g, t / c - 1);
      auto seen_keys = slot_keys, seen_values = slot_values;
      if (geometry_.causal) {
        for (int64_t i = t / c * c; i <= t; ++i) {
          if (!is_real(in, b, i)) continue;
          seen_keys.push_back(key[b][g][i]);
          seen_values.push_back(value[b][g][i]);
        }
      }
      return attend(query[b][h][t], seen_keys, seen_values, in.value.size(3));
    });
  }

  static std::vector<std::string> refusals(const Options& options, const Geometry& geometry) {
    if (options.projected_length.value_or(1) <= geometry.context) return {};
    return {
        fmt::format("projected_length {} exceeds the context {}, which would lengthen and not shorten; take at most {}",
                    *options.projected_length, geometry.context, geometry.context)};
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    return 2 * c10::multiply_integers(projection_shape(options, geometry));
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
    const double both = geometry.head_dim + geometry.value_dim, queries = sizes.queries;
    Cost cost;
    double kept = 0;
    if (!geometry.causal) {
      const double slots = projected_length(options, geometry);
      cost.algorithmic_flops = 2 * batch * both * slots * (groups * sizes.keys + heads * queries);
      cost.executed_flops = cost.algorithmic_flops;
      kept = batch * groups * (sizes.keys + slots) * both + batch * heads * queries;
      if (geometry.head_dim != geometry.value_dim) kept += batch * heads * queries * slots;
    } else {
      const auto blocks = blocks_of(options.block_length, sizes.queries);
      const double n = blocks.count, c = blocks.length, r = slots_per_block(options, geometry), slots = (n - 1) * r;
      const double projection = groups * slots * c;
      const double rest = queries - (n - 1) * c;                           // positions of the newest block
      const double pairs = (n - 1) * (n - 2) / 2 * c * r + rest * slots +  // slots
                           (n - 1) * c * (c + 1) / 2 + rest * (rest + 1) / 2;
      cost.algorithmic_flops = 2 * batch * both * (projection + heads * pairs);
      cost.executed_flops = 2 * batch * both * (projection + heads * n * c * (slots + c));
      kept = batch * (heads * n * c * (slots + c) + groups * (2 * n * c + slots) * both + heads * n * c * both);
    }
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    const int64_t complete = std::max<int64_t>(sizes.keys - 1, 0) / options.block_length;
    cost.state_bytes = float_bytes * sizes.batch * geometry.num_kv_heads * (geometry.head_dim + geometry.value_dim) *
                       (complete * slots_per_block(options, geometry) + sizes.keys - complete * options.block_length);
    return cost;
  }

 private:
  static int64_t projected_length(const Options& options, const Geometry& geometry) {
    return options.projected_length.value_or(std::max<int64_t>(1, geometry.context / usual_compression));
  }

  static int64_t slots_per_block(const Options& options, const Geometry& geometry) {
    return ceil_div(projected_length(options, geometry) * options.block_length, geometry.context);
  }

  /// Bidirectional [k, context]; causal [blocks, r, c], a slice for each block that a later one can follow.
  static std::vector<int64_t> projection_shape(const Options& options, const Geometry& geometry) {
    if (!geometry.causal) return {projected_length(options, geometry), geometry.context};
    return {(geometry.context - 1) / options.block_length, slots_per_block(options, geometry), options.block_length};
  }

  /// Blocks are at fixed places; a sequence that ends in the first needs no padding.
  static Blocks blocks_of(int64_t block_length, int64_t positions) {
    return {std::max<int64_t>(1, ceil_div(positions, block_length)), std::min(block_length, positions)};
  }

  void check_context(int64_t positions) const {
    if (positions > geometry_.context)
      throw ShapeError(fmt::format("linformer: {} positions, but its projections were made for a context of {}",
                                   positions, geometry_.context));
  }

  /// E K: [B, G, S, W] -> [B, G, k, W], as one product over all heads and rows.
  static Tensor projected(const Tensor& x, const Tensor& projection) {
    const int64_t batch = x.size(0), groups = x.size(1), keys = x.size(2), width = x.size(3);
    const auto columns = x.permute({2, 0, 1, 3}).reshape({keys, batch * groups * width});
    return at::mm(projection.narrow(1, 0, keys), columns).view({-1, batch, groups, width}).permute({1, 2, 0, 3});
  }

  /// The same by blocks from block `first` on: [B, G, M, c, W] -> [B, G, M r, W].
  Tensor slots_of(const Tensor& x, const Tensor& projection, int64_t first) const {
    const int64_t batch = x.size(0), groups = x.size(1), blocks = x.size(2), width = x.size(4);
    const auto columns = x.permute({2, 3, 0, 1, 4}).reshape({blocks, block_length_, batch * groups * width});
    return at::bmm(projection.narrow(0, first, blocks).to(x.scalar_type()), columns)  // [M, r, B G W]
        .view({blocks, block_slots_, batch, groups, width})
        .permute({2, 3, 0, 1, 4})
        .reshape({batch, groups, blocks * block_slots_, width});
  }

  void close_block(State& state) const {
    const int64_t block = state.length / block_length_ - 1;
    const auto close = [&](const char* slots, const char* raw, const Tensor& projection) {
      auto& open = state.tensors.at(raw);
      auto& closed = state.tensors.at(slots);
      closed = at::cat({closed, slots_of(open.unsqueeze(2), projection, block)}, 2);
      open = open.narrow(2, 0, 0).clone();
    };
    close("key_slots", "block_keys", key_projection_);
    close("value_slots", "block_values", value_projection_);
  }

  /// What is added to a logit: 0, or so much below that its weight is exactly zero. Finite, so that a row
  /// with nothing to see stays finite until it is replaced; half the lowest, so that a logit fits in too.
  static Tensor bias_of(const Tensor& visible, torch::ScalarType type) {
    const double lowest = type == torch::kFloat64 ? std::numeric_limits<double>::lowest()
                                                  : static_cast<double>(std::numeric_limits<float>::lowest());
    return at::zeros(visible.sizes(), visible.options().dtype(type)).masked_fill_(visible.logical_not(), lowest / 2);
  }

  /// The causal form. Logits to slots and to the own block come from two products and meet in one
  /// softmax; in float32 under bfloat16.
  Tensor by_blocks(const Inputs& in, const Tensor& masked_key, const Tensor& masked_value,
                   const CallSizes& sizes) const {
    const auto type = accumulation_type(in.value.scalar_type());
    const auto blocks = blocks_of(block_length_, sizes.queries);
    const auto [n, c] = blocks;
    const int64_t batch = sizes.batch, groups = sizes.kv_heads, shared = sizes.heads / groups;
    const double scale = 1 / std::sqrt(static_cast<double>(sizes.key_width));
    const auto query = query_blocks(in.query.to(type) * scale, groups, blocks);  // [B, G, n, R c, D]
    const auto key = key_blocks(masked_key.to(type), blocks);                    // [B, G, n, c, D]
    const auto value = key_blocks(masked_value.to(type), blocks);                // [B, G, n, c, E]
    const auto masks = visible(in, blocks);

    // _unsafe_view: the product has no other user, so that adding in place costs autograd nothing.
    const auto own = at::_unsafe_view(at::matmul(query, key.mT()), {batch, groups, n, shared, c, c})
                         .add_(bias_of(masks.own, type))
                         .view({batch, groups, n, shared * c, c});
    Tensor output;  // [B, G, n, R c, E]
    if (n == 1) {
      output = at::matmul(at::softmax(own, -1), value);
    } else {
      const auto slot_keys = slots_of(key.narrow(2, 0, n - 1), key_projection_, 0);        // [B, G, M r, D]
      const auto slot_values = slots_of(value.narrow(2, 0, n - 1), value_projection_, 0);  // [B, G, M r, E]
      const int64_t slots = slot_keys.size(2);
      const auto rows = query.reshape({batch, groups, n * shared * c, sizes.key_width});
      const auto far = at::_unsafe_view(at::matmul(rows, slot_keys.mT()), {batch, groups, n, shared * c, slots})
                           .add_(bias_of(masks.slots, type));
      const auto weights = at::softmax(at::cat({far, own}, -1), -1);  // [B, G, n, R c, M r + c]
      const auto from_slots =
          at::matmul(weights.narrow(-1, 0, slots).reshape({batch, groups, n * shared * c, slots}), slot_values);
      output = at::baddbmm(from_slots.view({batch * groups * n, shared * c, sizes.value_width}),
                           weights.narrow(-1, slots, c).flatten(0, 2), value.flatten(0, 2))
                   .view({batch, groups, n, shared * c, sizes.value_width});
    }
    auto result = joined_blocks(output, sizes.heads, sizes.queries);
    if (in.key_padding.defined()) {  // a query before the first real key sees nothing
      const auto blind = in.key_padding.cumsum(1).eq(0).unsqueeze(1).unsqueeze(-1);  // [B, 1, T, 1]
      result = result.masked_fill(blind, 0);
    }
    return result.to(in.value.scalar_type());
  }

  /// What the queries of each block see.
  struct Masks {
    Tensor own;    // bool [c, c], with padding [B, 1, n, 1, c, c]
    Tensor slots;  // bool [n, 1, M r], with padding [B, 1, n, 1, M r]
  };
  Masks visible(const Inputs& in, const Blocks& blocks) const {
    const auto [n, c] = blocks;
    const auto device = in.query.device();
    const auto index = at::arange(n, torch::TensorOptions().dtype(torch::kInt64).device(device));
    const auto slot_block = index.narrow(0, 0, n - 1).repeat_interleave(block_slots_);  // [M r]
    Masks masks{.own = causal_mask(c, c, device), .slots = slot_block.lt(index.view({n, 1, 1}))};
    if (!in.key_padding.defined()) return masks;
    const auto real =
        pad_positions(in.key_padding.unsqueeze(-1), 0, blocks.padded() - in.key_padding.size(1)).reshape({-1, n, c});
    masks.own = masks.own.logical_and(real.view({-1, 1, n, 1, 1, c}));
    const auto filled = real.any(-1).narrow(1, 0, n - 1).repeat_interleave(block_slots_, 1);  // [B, M r]
    masks.slots = masks.slots.logical_and(filled.view({filled.size(0), 1, 1, 1, filled.size(1)}));
    return masks;
  }

  int64_t block_length_, block_slots_;
  Tensor key_projection_, value_projection_;
};

/// E = F = identity: a slot for every position.
void set_identity(Attention& attention) {
  for (auto& projection : attention.parameters()) projection.copy_(at::eye(projection.size(-1), projection.options()));
}

const Register<Linformer> register_linformer{{
    .name = "linformer",
    .family = "low-rank",
    .summary = "softmax over keys and values projected along the sequence to a fixed number of slots",
    .equation = "y = softmax(q (E k)^T / sqrt(D)) F v; causal: by blocks (not in the paper), slots of the blocks "
                "before and raw keys of the own block in one softmax",
    .source = "Wang et al. 2020, arXiv:2006.04768, section 4, equation 7; the causal form is ours",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads},
    .float32_sums = Float32Sums::causal,
    .time_complexity = "T projected_length (by default context / 4, so a quarter of the square at full context); "
                       "causal: T^2 projected_length / context",
    .state_complexity = "T projected_length / context + block_length",
    .samples = {Json{{"projected_length", 8}}, Json{{"projected_length", 20}, {"block_length", 7}}},
    .equalities = {{.statement = "identity projections give softmax",
                    .options = {{"projected_length", 65}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false,
                    .prepare = set_identity},
                   {.statement = "causal, identity slices give softmax",
                    .options = {{"projected_length", 65}, {"block_length", 13}},
                    .other = "softmax",
                    .prepare = set_identity}},
}};

}  // namespace
}  // namespace attnscale

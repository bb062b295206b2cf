// Strided sparse attention: a local band, and every stride-th position. Two steps reach everything.
// Child et al. 2019, arXiv:1904.10509, section 4.3 ("strided attention").
//
// B batch, H heads, G key-value heads, R = H / G, T queries, S keys, l stride, n = T / l blocks of l positions,
// w blocks that a band reaches, D key width, E value width
//
// Not here: the two patterns in different heads or layers; a head reads their union (section 5.1, "merged head").

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>

#include "attention/block_gather.h"
#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over |t - i| < stride and over (t - i) mod stride = 0;
/// causal: i <= t. (The paper's band holds t - l .. t; its last position is our nearest column.)
///
/// Positions stand in a table of n rows and l columns. The band of a query lies in its own row and the one before
/// (and after); its columns are one column of the table. Both kinds of logits are batched products, joined under one
/// softmax, so the work is T (w l + T / l) pairs, T^1.5 when the stride grows as sqrt(T). Logits are kept for the
/// backward pass, in float32 under bfloat16.
class Strided : public CachedAttention {
 public:
  struct Options {
    int64_t stride = 16;
    static Fields fields() {
      return {field(&Options::stride, "stride",
                    "width of the band, and distance between the far positions; about the square root of the length "
                    "costs least")
                  .between(1, 65536)
                  .in("positions")};
    }
  };

  Strided(const Options& options, const Geometry& geometry) : CachedAttention(geometry), options_(options) {}

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("strided", in, geometry_, true);
    const FullPrecision sums_stay_float32;
    const auto [table, band] = plan(options_, geometry_.causal, sizes.queries);
    const auto [n, l] = table;
    const int64_t shared = sizes.heads / sizes.kv_heads;
    const auto type = accumulation_type(in.value.scalar_type());
    const double scale = 1 / std::sqrt(static_cast<double>(sizes.key_width));
    const auto query = query_blocks(in.query.to(type) * scale, sizes.kv_heads, table);  // [B, G, n, R l, D]
    const auto key = key_blocks(in.key.to(type), table), value = key_blocks(in.value.to(type), table);
    // [B, G, n, R l, X] <-> [B, G, l, R n, X]
    const auto by_column = [&, n = n, l = l](const Tensor& x) {
      return x.unflatten(3, {shared, l}).permute({0, 1, 4, 3, 2, 5}).flatten(3, 4);
    };
    const auto by_row = [&, n = n](const Tensor& x) {
      return x.unflatten(3, {shared, n}).permute({0, 1, 4, 3, 2, 5}).flatten(3, 4);
    };

    auto logits = at::matmul(query, banded(key, band).mT());  // [B, G, n, R l, w l]
    if (n > 1) {
      const auto far = at::matmul(by_column(query), key.transpose(2, 3).mT());  // [B, G, l, R n, n]
      logits = at::cat({logits, by_row(far)}, -1);                              // [B, G, n, R l, w l + n]
    }
    auto seen = visible(table, band, sizes.queries, in.query.device());  // [1, 1, n, l, w l + n]
    if (in.key_padding.defined()) {
      const auto real = key_blocks(per_key(in.key_padding), table);  // [B, 1, n, l, 1]
      auto present = banded(real, band).mT().expand({-1, -1, -1, l, -1});
      if (n > 1) present = at::cat({present, real.permute({0, 1, 4, 3, 2}).expand({-1, -1, n, -1, -1})}, -1);
      seen = seen.logical_and(present);
    }
    seen = seen.unsqueeze(3).expand({-1, -1, -1, shared, -1, -1}).flatten(3, 4);  // [1 or B, 1, n, R l, w l + n]
    const auto blind = seen.any(-1, true).logical_not();
    const auto hidden = seen.logical_or(blind).logical_not();
    const auto weights = at::softmax(logits.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1);
    auto output = at::matmul(weights.narrow(-1, 0, band.count() * l), banded(value, band));  // [B, G, n, R l, E]
    if (n > 1)
      output = output + by_row(at::matmul(by_column(weights.narrow(-1, band.count() * l, n)), value.transpose(2, 3)));
    return joined_blocks(output.masked_fill(blind, 0), sizes.heads, sizes.queries).to(in.value.scalar_type());
  }

  /// The state is the cache: every key and value so far, as each is in some later query's column.
  /// Takes the keys that any of the new queries sees: l + S / l of them for one query.
  Tensor decode(const Inputs& in, State& state) override {
    const auto sizes = checked_sizes("strided", in, geometry_, true);
    const int64_t before = state.length;
    const auto all = appended(in, state);
    if (before == 0) return forward(in);
    const auto options = torch::TensorOptions().dtype(torch::kInt64).device(in.query.device());
    const auto distance =
        at::arange(before, before + sizes.queries, options).unsqueeze(1) - at::arange(state.length, options);  // [T, S]
    const auto seen =
        distance.ge(0).logical_and((distance < options_.stride).logical_or((distance % options_.stride) == 0));
    const auto taken = seen.any(0).nonzero().squeeze(1);
    return softmax_attention(in.query, all.key.index_select(2, taken), all.value.index_select(2, taken), false,
                             seen.index_select(1, taken));
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> keys, values;
      for (int64_t i = 0; i < (geometry_.causal ? t + 1 : in.key.size(2)); ++i) {
        const int64_t distance = std::abs(t - i);
        if ((distance >= options_.stride && distance % options_.stride != 0) || !is_real(in, b, i)) continue;
        keys.push_back(key[b][g][i]);
        values.push_back(value[b][g][i]);
      }
      return attend(query[b][h][t], keys, values, in.value.size(3));
    });
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    const int64_t distance = std::abs(query - key);
    return (!geometry_.causal || key <= query) && (distance < options_.stride || distance % options_.stride == 0);
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto [table, band] = plan(options, geometry.causal, sizes.queries);
    const double n = table.count, l = table.length, w = band.count(), stride = options.stride;
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
    const double both = geometry.head_dim + geometry.value_dim, pairs = n * l * (w * l + (table.count > 1 ? n : 0));
    // The band, and of each column all but the own position.
    const double full = std::floor(sizes.queries / stride), rest = sizes.queries - full * stride;
    const auto column = [&](double x) { return geometry.causal ? x * (x - 1) / 2 : x * (x - 1); };
    const double visible = band_pairs(sizes.queries, options.stride - 1, geometry.causal ? 0 : options.stride - 1) +
                           rest * column(full + 1) + (stride - rest) * column(full);
    Cost cost;
    cost.algorithmic_flops = 2 * batch * heads * visible * both;
    cost.executed_flops = 2 * batch * heads * pairs * both;
    // Weights whole and apart, the mask's byte, the scaled queries in both orders, the band's keys and values.
    const double kept = batch * (heads * (2 * pairs + 2 * n * l * geometry.head_dim) + groups * n * w * l * both);
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept + pairs);
    cost.state_bytes = key_value_bytes(geometry, sizes.batch, sizes.keys);
    return cost;
  }

 private:
  /// Rows of the table before and after its own that a band reaches.
  struct Band {
    int64_t before = 0, after = 0;
    int64_t count() const { return before + 1 + after; }  // w
  };
  struct Plan {
    Blocks table;
    Band band;
  };
  static Plan plan(const Options& options, bool causal, int64_t positions) {
    const Blocks table{ceil_div(positions, options.stride), std::min(options.stride, positions)};
    if (table.count == 1 || options.stride == 1) return {table, {}};
    return {table, {1, causal ? 0 : 1}};
  }

  /// Each row of the table with its neighbours: [B, G, n, l, D] -> [B, G, n, w l, D], zeros outside.
  static Tensor banded(const Tensor& rows, const Band& band) {
    if (band.count() == 1) return rows;
    const int64_t n = rows.size(2), l = rows.size(3);
    const auto padded = pad_positions(rows.flatten(2, 3), band.before * l, band.after * l).unflatten(2, {-1, l});
    std::vector<Tensor> pieces;
    for (int64_t i = 0; i < band.count(); ++i) pieces.push_back(padded.narrow(2, i, n));
    return at::cat(pieces, 3);
  }

  /// bool [1, 1, n, l, w l + n]
  Tensor visible(const Blocks& table, const Band& band, int64_t positions, torch::Device device) const {
    const auto [n, l] = table;
    const auto options = torch::TensorOptions().dtype(torch::kInt64).device(device);
    const auto query = at::arange(n * l, options).view({n, l, 1});
    const auto row = at::arange(n, options).view({n, 1, 1});
    const auto near = (row - band.before) * l + at::arange(band.count() * l, options);  // [n, 1, w l]
    const auto distance = query - near;
    auto seen = distance.abs().lt(options_.stride).logical_and(near >= 0).logical_and(near < positions);
    if (geometry_.causal) seen = seen.logical_and(distance >= 0);
    if (n > 1) {
      const auto far =
          at::arange(n, options).view({1, 1, n}) * l + at::arange(l, options).view({1, l, 1});  // [1, l, n]
      const auto other = geometry_.causal ? far < query : far.ne(query).logical_and(far < positions);
      seen = at::cat({seen, other.expand({n, l, n})}, -1);
    }
    return seen.view({1, 1, n, l, -1});
  }

  Options options_;
};

const Register<Strided> register_strided{{
    .name = "strided",
    .family = "sparse",
    .summary = "softmax over a local band and every stride-th position",
    .equation = "y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over |t - i| < stride or (t - i) mod stride = 0; "
                "causal: i <= t",
    .source = "Child et al. 2019, arXiv:1904.10509, section 4.3; both patterns in each head; the bidirectional form is "
              "ours",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .float32_sums = Float32Sums::always,
    .time_complexity = "T stride + T^2 / stride",
    .state_complexity = "T (D + E)",
    .samples = {Json{{"stride", 5}}, Json{{"stride", 7}}, Json{{"stride", 20}}},
    .equalities = {{.statement = "a stride of T is softmax", .options = {{"stride", 65}}, .other = "softmax"},
                   {.statement = "a stride of 1 is softmax", .options = {{"stride", 1}}, .other = "softmax"},
                   {.statement = "a stride of T is softmax, bidirectional",
                    .options = {{"stride", 65}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false}},
}};

}  // namespace
}  // namespace attnscale

// Dilated window attention: softmax over every stride-th of the latest positions, so that a window of few keys
// reaches far. Beltagy et al. 2020, arXiv:2004.05150, section 3.1 ("dilated sliding window").
//
// B batch, H heads, G key-value heads, T queries, S keys, s stride, m = T / s positions of one residue,
// D key width, E value width
//
// Not here: a stride that differs between heads (the paper dilates two heads of its upper layers); layers may differ.

#include <algorithm>

#include <ATen/ops/ones.h>

#include "attention/block_gather.h"
#include "attention/blocks.h"
#include "attention/key_value_state.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_j softmax_j(q_t . k_i / sqrt(D)) v_i over i = t - j stride, 0 <= j < window; bidirectional:
/// -floor((window - 1) / 2) <= j <= floor(window / 2). Stride 1 is `sliding_window`.
///
/// Positions of one residue modulo the stride see each other alone, so each residue is a sequence of its
/// own under a plain band.
class Dilated : public CachedAttention {
 public:
  struct Options {
    int64_t window = 64;
    int64_t stride = 2;
    static Fields fields() {
      return {field(&Options::window, "window",
                    "keys that a query sees, its own included; bidirectional: half of them on either side")
                  .at_least(1)
                  .in("positions"),
              field(&Options::stride, "stride", "distance from one of these keys to the next")
                  .between(1, 65536)
                  .in("positions")};
    }
  };

  Dilated(const Options& options, const Geometry& geometry)
      : CachedAttention(geometry), options_(options), attends_(pattern(options, geometry.causal)) {}

  Tensor forward(const Inputs& in) override {
    checked_sizes("dilated", in, geometry_, true);
    return dilated(in);
  }

  /// The state is the latest (window - 1) stride keys and values: those that the next query may need.
  Tensor decode(const Inputs& in, State& state) override {
    checked_sizes("dilated", in, geometry_, true);
    const auto all = appended(in, state);
    const int64_t keys = all.key.size(2), kept = std::min(keys, (options_.window - 1) * options_.stride);
    // Cloned, as a view would keep what has left the window in memory.
    for (auto& [name, tensor] : state.tensors) tensor = tensor.narrow(2, keys - kept, kept).clone();
    return dilated(all);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const int64_t least = geometry_.causal ? 0 : -((options_.window - 1) / 2);
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      std::vector<Tensor> keys, values;
      for (int64_t j = least; j < least + options_.window; ++j) {
        const int64_t i = t - j * options_.stride;
        if (i < 0 || i >= in.key.size(2) || !is_real(in, b, i)) continue;
        keys.push_back(key[b][g][i]);
        values.push_back(value[b][g][i]);
      }
      return attend(query[b][h][t], keys, values, in.value.size(3));
    });
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    const int64_t steps = (query - key) / options_.stride;
    const int64_t least = geometry_.causal ? 0 : -((options_.window - 1) / 2);
    return (query - key) % options_.stride == 0 && steps >= least && steps < least + options_.window;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const int64_t s = options.stride, m = ceil_div(sizes.queries, s), longer = sizes.queries - s * (m - 1);
    auto work = pattern_work(pattern(options, geometry.causal), m);
    work.pairs *= static_cast<double>(s);
    work.gathered *= static_cast<double>(s);
    const auto [behind, ahead] = window_reach(options.window, geometry.causal);
    const double visible = static_cast<double>(longer) * band_pairs(m, behind, ahead) +
                           static_cast<double>(s - longer) * (m > 1 ? band_pairs(m - 1, behind, ahead) : 0);
    auto cost = pattern_cost(work, visible, geometry, sizes);
    cost.state_bytes = key_value_bytes(geometry, sizes.batch, std::min(sizes.keys, (options.window - 1) * s));
    return cost;
  }

 private:
  static BlockPattern pattern(const Options& options, bool causal) {
    const auto [behind, ahead] = window_reach(options.window, causal);
    return band_pattern(behind, ahead);
  }

  /// Residues as batch rows: [B, G, s m, D] -> [B s, G, m, D]
  Tensor by_residue(const Tensor& x) const {
    return x.unflatten(2, {-1, options_.stride}).permute({0, 3, 1, 2, 4}).flatten(0, 1);
  }

  /// Queries are the newest T of S positions.
  Tensor dilated(const Inputs& in) const {
    const int64_t s = options_.stride, queries = in.query.size(2), keys = in.key.size(2);
    // Zeros in front make the first query open a round of residues, zeros behind complete the last one.
    const int64_t front = (s - (keys - queries) % s) % s;
    const int64_t back = (s - queries % s) % s;
    auto real = in.key_padding;
    if (!real.defined() && (front > 0 || (back > 0 && !geometry_.causal)))
      real = at::ones({in.key.size(0), keys}, torch::dtype(torch::kBool).device(in.key.device()));
    Inputs split{.query = by_residue(pad_positions(in.query, 0, back)),
                 .key = by_residue(pad_positions(in.key, front, back)),
                 .value = by_residue(pad_positions(in.value, front, back))};
    if (real.defined())
      split.key_padding = by_residue(pad_positions(per_key(real), front, back)).squeeze(-1).squeeze(1);
    const auto output = attends_.forward(split);  // [B s, H, m, E]
    const auto joined = output.unflatten(0, {-1, s}).permute({0, 2, 3, 1, 4}).flatten(2, 3);
    return back == 0 ? joined : joined.narrow(2, 0, queries);
  }

  Options options_;
  PatternAttention attends_;
};

const Register<Dilated> register_dilated{{
    .name = "dilated",
    .family = "sparse",
    .summary = "softmax over every stride-th of the latest window x stride positions",
    .equation = "y_t = sum_j softmax_j(q_t . k_i / sqrt(D)) v_i, i = t - j stride, 0 <= j < window; "
                "bidirectional: -floor((window - 1) / 2) <= j <= floor(window / 2)",
    .source = "Beltagy et al. 2020, arXiv:2004.05150, section 3.1",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .time_complexity = "T window (D + E)",
    .state_complexity = "window stride (D + E)",
    .samples = {Json{{"window", 5}, {"stride", 3}}, Json{{"window", 20}, {"stride", 2}},
                Json{{"window", 2}, {"stride", 40}}},
    .equalities = {{.statement = "a stride of 1 is sliding_window",
                    .options = {{"window", 17}, {"stride", 1}},
                    .other = "sliding_window",
                    .other_options = {{"window", 17}}},
                   {.statement = "a stride of 1 is sliding_window, bidirectional",
                    .options = {{"window", 18}, {"stride", 1}},
                    .causal = false,
                    .other = "sliding_window",
                    .other_options = {{"window", 18}},
                    .other_causal = false},
                   {.statement = "a window of T keys at stride 1 is softmax",
                    .options = {{"window", 65}, {"stride", 1}},
                    .other = "softmax"}},
}};

}  // namespace
}  // namespace attnscale

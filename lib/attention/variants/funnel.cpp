// Attention between pooled positions (Funnel-Transformer), with the shift that makes it causal (Hourglass). Dai et al.
// 2020, arXiv:2006.03236, section 2.2, and Nawrot et al. 2021, arXiv:2110.13711, sections 2.2 and 2.3.
//
// B batch, H heads, G key-value heads (G divides H), T positions, c stride, N = ceil(T / c) groups, D key width,
// E value width

#include <algorithm>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "attention/blocks.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_m softmax_m(q'_n . k'_m / sqrt(D)) v'_m with n = floor(t / c), where q'_n, k'_n, v'_n are means over group
/// n: every position of a group gets the group's output.
///
/// Bidirectional: group n is n c .. n c + c - 1. Causal: it is shifted by c - 1 to n c - c + 1 .. n c, so that it is
/// complete where its first output is due, and sees the groups up to its own. Means are over the real positions of a
/// group; the papers' causal shift counts the zeros before the sequence too.
///
/// `pool_keys` false leaves keys and values as they are, the paper's "pool query only": a group then sees single
/// positions, up to n c where causal.
///
/// The papers pool once for several layers and give single positions back their detail by a skip connection; as one
/// attention variant, that is the residual stream around it.
class Funnel : public Attention {
 public:
  struct Options {
    int64_t stride = 2;
    bool pool_keys = true;
    static Fields fields() {
      return {field(&Options::stride, "stride", "positions that are pooled into one").between(1, 4096).in("positions"),
              field(&Options::pool_keys, "pool_keys", "pool keys and values as well as queries")};
    }
  };

  Funnel(const Options& options, const Geometry& geometry) : Attention(geometry), options_(options) {}

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("funnel", in, geometry_, true);
    const int64_t groups = ceil_div(sizes.queries, options_.stride);
    const int64_t front = geometry_.causal ? options_.stride - 1 : 0;
    const auto pool = [&](const Tensor& x) { return pooled(x, in.key_padding, front, groups); };
    const auto query = pool(in.query);
    Tensor output;  // [B, H, N, E]
    if (options_.pool_keys) {
      const auto real = in.key_padding.defined() ? any_real(in.key_padding, front, groups) : Tensor();
      const bool square = geometry_.causal && !real.defined();
      const auto visible =
          visible_keys(geometry_.causal && !square ? causal_mask(groups, groups, query.device()) : Tensor(), real);
      output = softmax_attention(query, pool(in.key), pool(in.value), square, visible);
    } else {
      const auto visible = geometry_.causal ? reached(0, groups, sizes.keys, query.device()) : Tensor();
      output = softmax_attention(query, in.key, in.value, false, visible_keys(visible, in.key_padding));
    }
    return output.unsqueeze(3).expand({-1, -1, -1, options_.stride, -1}).flatten(2, 3).narrow(2, 0, sizes.queries);
  }

  /// Pooled keys and values (or all, without pool_keys), the latest group's output, and the single queries, keys and
  /// values of the group that is still open.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    if (!geometry_.causal) return Attention::new_state(batch, options);
    const auto& g = geometry_;
    const auto empty = [&](int64_t heads, int64_t width) { return at::empty({batch, heads, 0, width}, options); };
    State state{.tensors = {{"key", empty(g.num_kv_heads, g.head_dim)},
                            {"value", empty(g.num_kv_heads, g.value_dim)},
                            {"open_query", empty(g.num_heads, g.head_dim)},
                            {"output", at::zeros({batch, g.num_heads, 1, g.value_dim}, options)}}};
    if (!options_.pool_keys) return state;
    state.tensors["open_key"] = empty(g.num_kv_heads, g.head_dim);
    state.tensors["open_value"] = empty(g.num_kv_heads, g.value_dim);
    return state;
  }

  Tensor decode(const Inputs& in, State& state) override {
    const auto sizes = checked_sizes("funnel", in, geometry_, true);
    const int64_t c = options_.stride, before = state.length, after = before + sizes.queries;
    // Groups complete so far, and with the new positions; group n is complete with position n c.
    const int64_t old_groups = ceil_div(before, c), groups = ceil_div(after, c), fresh = groups - old_groups;
    const int64_t front = before == 0 ? c - 1 : 0;
    auto& of = state.tensors;
    // The groups that became complete; what is left stays open.
    const auto absorb = [&](const Tensor& x, Tensor& open) {
      open = at::cat({open, x}, 2);
      const int64_t used = fresh * c - (fresh > 0 ? front : 0);
      const auto complete = pooled(open.narrow(2, 0, used), {}, fresh > 0 ? front : 0, fresh);
      open = open.narrow(2, used, open.size(2) - used).clone();
      return complete;
    };
    const auto query = absorb(in.query, of.at("open_query"));  // [B, H, fresh, D]
    auto& key = of.at("key");
    auto& value = of.at("value");
    key = at::cat({key, options_.pool_keys ? absorb(in.key, of.at("open_key")) : in.key}, 2);
    value = at::cat({value, options_.pool_keys ? absorb(in.value, of.at("open_value")) : in.value}, 2);
    state.length = after;

    auto& latest = of.at("output");
    auto outputs = latest;  // of groups old_groups - 1 ..; the first stands for nothing at the beginning
    if (fresh > 0) {
      const auto visible = options_.pool_keys ? causal_mask(fresh, groups, query.device())
                                              : reached(old_groups, fresh, after, query.device());
      outputs = at::cat({latest, softmax_attention(query, key, value, false, visible)}, 2);
      latest = outputs.narrow(2, fresh, 1).clone();
    }
    const auto group = at::arange(before, after, torch::dtype(torch::kInt64).device(query.device())).div(c, "floor");
    return outputs.index_select(2, group - (old_groups - 1));
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const int64_t c = options_.stride, positions = in.query.size(2);
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const auto members = [&](int64_t b, int64_t n) {
      std::vector<int64_t> result;
      const int64_t first = geometry_.causal ? n * c - c + 1 : n * c;
      for (int64_t i = std::max<int64_t>(0, first); i < std::min(positions, first + c); ++i)
        if (is_real(in, b, i)) result.push_back(i);
      return result;
    };
    const auto mean = [&](const std::vector<Tensor>& rows, const std::vector<int64_t>& of) {
      auto sum = at::zeros_like(rows[0]);
      for (const auto i : of) sum = sum + rows[i];
      return of.empty() ? sum : sum / static_cast<double>(of.size());
    };
    struct Seen {
      int64_t newest;  // position with which it is there
      Tensor key, value;
    };
    std::vector<Seen> all;  // of one head
    Tensor latest;
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      if (t % c != 0) return latest;  // the group's output again
      if (t == 0) {                   // a new head begins
        all.clear();
        for (int64_t m = 0; options_.pool_keys && m * c < positions; ++m)
          if (const auto of = members(b, m); !of.empty())
            all.push_back({m * c, mean(key[b][g], of), mean(value[b][g], of)});
        for (int64_t i = 0; !options_.pool_keys && i < positions; ++i)
          if (is_real(in, b, i)) all.push_back({i, key[b][g][i], value[b][g][i]});
      }
      std::vector<Tensor> keys, values;
      for (const auto& seen : all)
        if (!geometry_.causal || seen.newest <= t) keys.push_back(seen.key), values.push_back(seen.value);
      latest = attend(mean(query[b][h], members(b, t / c)), keys, values, in.value.size(3));
      return latest;
    });
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    return !geometry_.causal || key <= query / options_.stride * options_.stride;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const int64_t c = options.stride, groups = ceil_div(sizes.queries, c);
    const double heads = static_cast<double>(sizes.batch * geometry.num_heads), n = static_cast<double>(groups);
    const double shared = static_cast<double>(sizes.batch * geometry.num_kv_heads);
    const double d = geometry.head_dim, e = geometry.value_dim;
    const double keys = options.pool_keys ? n : static_cast<double>(sizes.keys);
    double pairs = n * keys;
    if (geometry.causal) pairs = n * (n - 1) / 2 * (options.pool_keys ? 1.0 : static_cast<double>(c)) + n;
    Cost cost;
    cost.algorithmic_flops = 2 * heads * pairs * (d + e);
    cost.executed_flops = 2 * heads * n * keys * (d + e);
    // Pooled query, keys and values, one normaliser per query; unequal widths keep the weights.
    const double kept = heads * n * (d + e) + (options.pool_keys ? shared * n * (d + e) : n * keys) +
                        heads * n * (geometry.head_dim == geometry.value_dim ? 1 : keys);
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    const int64_t open = sizes.keys == 0 ? 0 : (sizes.keys - 1) % c, pair = geometry.head_dim + geometry.value_dim;
    const int64_t stored = options.pool_keys ? ceil_div(sizes.keys, c) + open : sizes.keys;
    cost.state_bytes =
        float_bytes * sizes.batch *
        (geometry.num_kv_heads * stored * pair + geometry.num_heads * (open * geometry.head_dim + geometry.value_dim));
    return cost;
  }

 private:
  /// x in groups of `stride`, after `front` places that are not there: [B, N', S, W] -> [B, N', groups, c, W].
  Tensor grouped(const Tensor& x, int64_t front, int64_t groups) const {
    return pad_positions(x, front, groups * options_.stride - front - x.size(2))
        .reshape({x.size(0), x.size(1), groups, options_.stride, x.size(3)});
  }

  /// Means over the real positions of each group, zeros where there are none: [B, N', S, W] -> [B, N', groups, W].
  Tensor pooled(const Tensor& x, const Tensor& key_padding, int64_t front, int64_t groups) const {
    if (options_.stride == 1 && !key_padding.defined()) return x;
    const auto real =
        key_padding.defined() ? key_padding : at::ones({1, x.size(2)}, torch::dtype(torch::kBool).device(x.device()));
    const auto count = grouped(per_key(real), front, groups).sum(3).clamp_min(1);  // [B or 1, 1, groups, 1]
    const auto present = key_padding.defined() ? x * per_key(key_padding) : x;
    return grouped(present, front, groups).sum(3) / count.to(x.scalar_type());
  }

  /// Which groups hold a real position: [B, S] -> [B, groups].
  Tensor any_real(const Tensor& key_padding, int64_t front, int64_t groups) const {
    return grouped(per_key(key_padding), front, groups).any(3).squeeze(3).squeeze(1);
  }

  /// Which single positions causal groups see: [groups, keys].
  Tensor reached(int64_t first_group, int64_t groups, int64_t keys, torch::Device device) const {
    const auto options = torch::dtype(torch::kInt64).device(device);
    const auto newest = at::arange(first_group, first_group + groups, options) * options_.stride;
    return at::arange(keys, options).le(newest.unsqueeze(1));
  }

  Options options_;
};

const Register<Funnel> register_funnel{{
    .name = "funnel",
    .family = "memory-compressed",
    .summary = "attention between means of neighbouring positions, given back to each of them",
    .equation =
        "y_t = sum_m softmax_m(q'_n . k'_m / sqrt(D)) v'_m, n = floor(t / c); q'_n = mean of q over n c .. n c + "
        "c - 1, causal: n c - c + 1 .. n c and m <= n; k', v' likewise",
    .source = "Dai et al. 2020, arXiv:2006.03236, section 2.2; causal shift: Nawrot et al. 2021, arXiv:2110.13711, "
              "sections 2.2 and 2.3",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .time_complexity = "T^2 / stride^2; pool_keys = false: T^2 / stride",
    .state_complexity = "T / stride; pool_keys = false: T",
    .samples = {Json{{"stride", 3}}, Json{{"stride", 4}, {"pool_keys", false}}},
    .equalities = {{.statement = "a stride of one is softmax", .options = {{"stride", 1}}, .other = "softmax"},
                   {.statement = "a stride of one is softmax, bidirectional, single keys",
                    .options = {{"stride", 1}, {"pool_keys", false}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false}},
}};

}  // namespace
}  // namespace attnscale

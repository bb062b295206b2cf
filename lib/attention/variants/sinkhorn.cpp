// Sparse Sinkhorn attention: each block reads itself and one block made by a learnt soft permutation of all blocks.
// Tay et al. 2020, arXiv:2002.11296, section 3.
//
// B batch, H heads, G key-value heads, R = H / G, T queries, n blocks of c positions, N most blocks,
// D key width, E value width
//
// Not here: the causal form. The paper hides the upper triangle before the Sinkhorn iterations, but a
// column's normaliser still runs over all later blocks, so that the past depends on them; without columns there is no
// permutation left. Nor here: Gumbel noise, the dense mixture with full attention and SortCut.

#include <algorithm>
#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "attention/block_gather.h"
#include "attention/blocks.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the keys of the own block and of its sorted block
/// k'_{a, p} = sum_b P_{ab} k_{b, p} (v' likewise): position p of all blocks, mixed by row a of P.
///
/// P = Sinkhorn(X / temperature), X_{ab} = (sum of keys in a) . W_b / c (the SortNet, one layer; a bias would be
/// normalised away): `iterations` times rows and then columns of exp are brought to sum 1, in logarithms. Padded keys
/// are zeros; a position of a sorted block counts when it is real in any block. W starts from N(0, 1 / D).
///
/// The work is T 2c pairs and the mixing's n^2 c (D + E), so T^2 / c: blocks of sqrt(T) cost T^1.5.
class Sinkhorn : public Attention {
 public:
  struct Options {
    int64_t block = 16;
    int64_t iterations = 8;
    double temperature = 0.75;
    static Fields fields() {
      return {field(&Options::block, "block", "positions in a block").between(1, 65536).in("positions"),
              field(&Options::iterations, "iterations", "normalisations of rows and of columns").between(1, 1000),
              field(&Options::temperature, "temperature", "divides the logits of the permutation; low: nearer to one")
                  .between(0.1, 1000)};
    }
  };

  Sinkhorn(const Options& options, const Geometry& geometry) : Attention(geometry), options_(options) {
    const int64_t most = ceil_div(geometry.context, options.block);
    const double narrow = 1 / std::sqrt(static_cast<double>(geometry.head_dim));
    weight_ = register_parameter("sort_weight", at::randn({geometry.num_kv_heads, geometry.head_dim, most}) * narrow);
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    return geometry.num_kv_heads * geometry.head_dim * ceil_div(geometry.context, options.block);
  }

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("sinkhorn", in, geometry_, true);
    const FullPrecision sums_stay_float32;
    const auto type = accumulation_type(in.value.scalar_type());
    const Blocks blocks{ceil_div(sizes.queries, options_.block), std::min(options_.block, sizes.queries)};
    const auto [n, c] = blocks;
    auto key = in.key.to(type), value = in.value.to(type);
    const auto real = in.key_padding.defined()
                          ? in.key_padding
                          : at::ones({1, sizes.keys}, torch::dtype(torch::kBool).device(in.key.device()));
    if (in.key_padding.defined()) {
      key = key * per_key(real);
      value = value * per_key(real);
    }
    key = key_blocks(key, blocks);  // [B, G, n, c, D]
    value = key_blocks(value, blocks);
    const auto order = permutation(key);  // [B, G, n, n]
    const auto with_sorted = [&, n = n, c = c](const Tensor& x) {
      const auto sorted = at::matmul(order, x.flatten(3)).view({sizes.batch, sizes.kv_heads, n, c, x.size(4)});
      return at::cat({x, sorted}, 3).flatten(0, 1);  // [B G, n, 2 c, .]
    };
    const auto own = key_blocks(per_key(real), blocks).squeeze(1).mT();  // [B, n, 1, c]
    auto visible = at::cat({own, own.any(1, true).expand_as(own)}, 3);   // [B, n, 1, 2 c]
    if (in.key_padding.defined()) visible = visible.repeat_interleave(sizes.kv_heads, 0);
    const auto query = query_blocks(in.query.to(type), sizes.kv_heads, blocks).flatten(0, 1);  // [B G, n, R c, D]
    const auto output = softmax_attention(query, with_sorted(key), with_sorted(value), false, visible);
    return joined_blocks(output.unflatten(0, {sizes.batch, sizes.kv_heads}), sizes.heads, sizes.queries)
        .to(in.value.scalar_type());
  }

  Tensor oracle(const Inputs& in) const override;

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const Blocks blocks{ceil_div(sizes.queries, options.block), std::min(options.block, sizes.queries)};
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
    const double n = blocks.count, c = blocks.length, d = geometry.head_dim, both = d + geometry.value_dim;
    const double sorting = 2 * batch * groups * (n * n * c * both + n * d * n);
    Cost cost;
    cost.algorithmic_flops = sorting + 2 * batch * heads * sizes.queries * 2 * c * both;
    cost.executed_flops = sorting + 2 * batch * heads * n * c * 2 * c * both;
    // Each half step of the iterations, blocks with their sorted ones, the mask, one normaliser per query.
    double kept = batch * groups * (n * n * (2.0 * static_cast<double>(options.iterations) + 2) + 3 * n * c * both) +
                  n * 2 * c + batch * heads * n * c;
    if (geometry.head_dim != geometry.value_dim) kept += batch * heads * n * c * 2 * c;
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    return cost;
  }

 private:
  /// key [B, G, n, c, D] -> P [B, G, n, n]
  Tensor permutation(const Tensor& key) const {
    const int64_t n = key.size(2), c = key.size(3);
    const auto weight = weight_.to(key.scalar_type()).narrow(2, 0, n);
    auto logits = at::matmul(key.sum(3) / static_cast<double>(c), weight) / options_.temperature;
    for (int64_t i = 0; i < options_.iterations; ++i) {
      logits = logits - at::logsumexp(logits, {3}, true);
      logits = logits - at::logsumexp(logits, {2}, true);
    }
    return at::exp(logits);
  }

  Options options_;
  Tensor weight_;  // [G, D, N]
};

Tensor Sinkhorn::oracle(const Inputs& in) const {
  using namespace oracle;
  const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
  const int64_t keys = in.key.size(2), c = std::min(options_.block, keys), n = ceil_div(keys, c);
  const auto real = [&](int64_t b, int64_t i) { return i < keys && is_real(in, b, i); };
  // P by products and quotients of rows and columns, and with it the sorted rows.
  struct Sorted {
    std::vector<Tensor> keys, values;  // [a c + p]; undefined where no block has a real position p
  };
  std::vector<std::vector<Sorted>> sorted;
  for (int64_t b = 0; b < in.key.size(0); ++b) {
    auto& of_row = sorted.emplace_back();
    for (int64_t g = 0; g < in.key.size(1); ++g) {
      std::vector<Tensor> rows;
      for (int64_t a = 0; a < n; ++a) {
        auto sum = at::zeros({in.key.size(3)}, key[b][g][0].options());
        for (int64_t p = 0; p < c; ++p)
          if (real(b, a * c + p)) sum = sum + key[b][g][a * c + p];
        const auto weight = in_double(weight_)[g].narrow(1, 0, n);
        rows.push_back(at::exp(at::mv(weight.t(), sum / static_cast<double>(c)) / options_.temperature));
      }
      auto p_matrix = at::stack(rows);  // [n, n]
      for (int64_t i = 0; i < options_.iterations; ++i) {
        p_matrix = p_matrix / p_matrix.sum(1, true);
        p_matrix = p_matrix / p_matrix.sum(0, true);
      }
      auto& result = of_row.emplace_back();
      std::vector<std::vector<Tensor>> cells;
      for (const auto& row : p_matrix.unbind(0)) cells.push_back(row.unbind(0));
      for (int64_t a = 0; a < n; ++a)
        for (int64_t p = 0; p < c; ++p) {
          Tensor mixed_key, mixed_value;
          for (int64_t from = 0; from < n; ++from) {
            if (!real(b, from * c + p)) continue;
            const auto add = [&](Tensor& sum, const Tensor& row) {
              const auto term = cells[static_cast<size_t>(a)][static_cast<size_t>(from)] * row;
              sum = sum.defined() ? sum + term : term;
            };
            add(mixed_key, key[b][g][from * c + p]);
            add(mixed_value, value[b][g][from * c + p]);
          }
          result.keys.push_back(mixed_key);
          result.values.push_back(mixed_value);
        }
    }
  }
  return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
    std::vector<Tensor> seen_keys, seen_values;
    const auto& others = sorted[static_cast<size_t>(b)][static_cast<size_t>(g)];
    for (int64_t i = t / c * c; i < (t / c + 1) * c; ++i) {
      if (real(b, i)) seen_keys.push_back(key[b][g][i]), seen_values.push_back(value[b][g][i]);
      const auto place = static_cast<size_t>(i);
      if (others.keys[place].defined())
        seen_keys.push_back(others.keys[place]), seen_values.push_back(others.values[place]);
    }
    return attend(query[b][h][t], seen_keys, seen_values, in.value.size(3));
  });
}

const Register<Sinkhorn> register_sinkhorn{{
    .name = "sinkhorn",
    .family = "sparse",
    .summary = "softmax over the own block and one made by a learnt soft permutation of all blocks; bidirectional only",
    .equation = "y_t = softmax attention of q_t to its block's keys and to k'_{a,p} = sum_b P_ab k_{b,p}; P = "
                "Sinkhorn((sum of keys in a) . W_b / c / temperature)",
    .source = "Tay et al. 2020, arXiv:2002.11296, section 3; its causal form leaks and is left out",
    .traits = {Trait::bidirectional, Trait::padding, Trait::grouped_heads},
    .float32_sums = Float32Sums::always,
    .time_complexity = "T block (D + E) + T^2 (D + E) / block",
    .state_complexity = "none",
    .samples = {Json{{"block", 4}, {"iterations", 3}}, Json{{"block", 13}, {"temperature", 0.3}},
                Json{{"block", 16}, {"iterations", 1}}},
    .equalities = {{.statement = "a single block is softmax: each key is there twice",
                    .options = {{"block", 65}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false}},
}};

}  // namespace
}  // namespace attnscale

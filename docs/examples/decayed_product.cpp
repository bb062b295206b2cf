// An attention variant in one file outside lib/: the exercise of docs/adding-a-variant.md.
//
// B batch, H heads, T queries, S keys, D key width, E value width

#include <cmath>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/zeros.h>

#include "attention/blocks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_{i <= t} decay^(t - i) (q_t . k_i / sqrt(D)) v_i: no softmax, one decay for all heads.
/// As a masked square when training; a [D, E] state when decoding, position by position.
class DecayedProduct : public Attention {
 public:
  struct Options {
    double decay = 0.9;
    static Fields fields() { return {field(&Options::decay, "decay", "what one step back costs").between(0.1, 1)}; }
  };

  DecayedProduct(const Options& options, const Geometry& geometry) : Attention(geometry), options_(options) {}

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("decayed_product", in, geometry_, true);
    auto key = in.key;
    if (in.key_padding.defined()) key = key * per_key(in.key_padding);
    const auto steps = at::arange(sizes.keys, in.query.options());
    const auto decays = at::pow(options_.decay, (steps.unsqueeze(1) - steps).clamp_min(0)).tril();  // [T, T]
    return at::matmul(at::matmul(scaled(in.query), key.mT()) * decays, in.value);
  }

  State new_state(int64_t batch, torch::TensorOptions options) const override {
    const auto& g = geometry_;
    return {.tensors = {{"sums", at::zeros({batch, g.num_heads, g.head_dim, g.value_dim}, options)}}};
  }

  Tensor decode(const Inputs& in, State& state) override {
    auto& sums = state.tensors.at("sums");
    std::vector<Tensor> outputs;
    for (int64_t t = 0; t < in.query.size(2); ++t, ++state.length) {
      const auto row = [&](const Tensor& x) { return x.narrow(2, t, 1); };  // [B, H, 1, W]
      sums = sums * options_.decay + at::matmul(row(in.key).mT(), row(in.value));
      outputs.push_back(at::matmul(scaled(row(in.query)), sums));
    }
    return at::cat(outputs, 2);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      auto sum = at::zeros({in.value.size(3)}, torch::kFloat64);
      for (int64_t i = 0; i <= t; ++i)
        if (is_real(in, b, i))
          sum = sum + std::pow(options_.decay, t - i) * query[b][h][t].dot(key[b][g][i]) /
                          std::sqrt(static_cast<double>(in.query.size(3))) * value[b][g][i];
      return sum;
    });
  }

  static Cost cost(const Options&, const Geometry& g, const Sizes& sizes) {
    const double heads = static_cast<double>(sizes.batch * g.num_heads);
    const double length = static_cast<double>(sizes.queries), both = static_cast<double>(g.head_dim + g.value_dim);
    return {.algorithmic_flops = 2 * heads * length * (length + 1) / 2 * both,
            .executed_flops = 2 * heads * length * length * both,
            .activation_bytes = static_cast<int64_t>(2 * float_bytes * heads * length * length),
            .state_bytes = float_bytes * sizes.batch * g.num_heads * g.head_dim * g.value_dim};
  }

 private:
  static Tensor scaled(const Tensor& query) { return query / std::sqrt(static_cast<double>(query.size(3))); }

  Options options_;
};

const Register<DecayedProduct> register_decayed_product{{
    .name = "decayed_product",
    .family = "linear",
    .summary = "products of query and key that fade with distance, without a softmax",
    .equation = "y_t = sum_{i<=t} decay^(t-i) (q_t . k_i / sqrt(D)) v_i",
    .source = "an exercise: docs/adding-a-variant.md",
    .traits = {Trait::causal, Trait::padding, Trait::incremental},
    .time_complexity = "T^2",
    .state_complexity = "D E",
    .samples = {Json{{"decay", 0.5}}},
}};

}  // namespace
}  // namespace attnscale

#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/generated/variable_factories.h>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "tensor/flop_counter.h"

// What the test files of single variants ask in the same way. The conformance run asks every variant
// of the registry; here a test chooses the options, sizes and padding at which a variant can go wrong.

namespace attnscale::testing {

/// Two orders of summation in float64 over at most a few hundred terms of size 1 differ by about
/// 1e-14; gradients add some tens of such sums. An error of definition is at least 1e-3.
constexpr double double_rounding = 1e-10;

struct Case {
  std::string variant;
  Json options = Json::object();
  Geometry geometry;
  int64_t batch = 2;

  /// Seeded, in float64, with every parameter random (some start at zero, which would hide errors).
  std::shared_ptr<Attention> build() const {
    torch::manual_seed(1);
    const auto& info = variant_named(variant);
    REQUIRE(refusals(info, options, geometry).empty());
    auto attention = info.make(options, geometry);
    attention->to(torch::kFloat64);
    const torch::NoGradGuard guard;
    for (auto& parameter : attention->parameters()) parameter.normal_(0, 0.5);
    return attention;
  }

  Inputs inputs(int64_t queries, int64_t keys, bool padded = false, uint64_t seed = 2) const {
    torch::manual_seed(seed);
    const auto options = torch::TensorOptions().dtype(torch::kFloat64);
    Inputs in;
    in.query = torch::randn({batch, geometry.num_heads, queries, geometry.head_dim}, options).requires_grad_();
    in.key = torch::randn({batch, geometry.num_kv_heads, keys, geometry.head_dim}, options).requires_grad_();
    in.value = torch::randn({batch, geometry.num_kv_heads, keys, geometry.value_dim}, options).requires_grad_();
    if (padded) {  // row 0: a third is padding, in front and behind; row 1: nothing is real
      const auto at = torch::arange(keys).unsqueeze(0);
      const auto first = torch::tensor({keys / 6, keys}).unsqueeze(1);
      const auto end = torch::tensor({keys - keys / 6, keys}).unsqueeze(1);
      in.key_padding = at.ge(first).logical_and(at.lt(end));
    }
    return in;
  }
  Inputs inputs(int64_t positions) const { return inputs(positions, positions); }
};

inline double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return a.numel() == 0 ? 0 : (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>();
}

/// Gradients of a weighted sum of the output to query, key, value and the parameters.
inline std::vector<Tensor> gradients(const Tensor& output, const Inputs& in, const Attention& attention) {
  std::vector<Tensor> leaves = {in.query, in.key, in.value};
  for (const auto& parameter : attention.parameters()) leaves.push_back(parameter);
  const auto weights = torch::arange(output.numel(), output.options()).cos().reshape(output.sizes());
  auto result = torch::autograd::grad({(output * weights).sum()}, leaves, {}, std::nullopt, false, true);
  for (size_t i = 0; i < leaves.size(); ++i)
    if (!result[i].defined()) result[i] = torch::zeros_like(leaves[i]);
  return result;
}

/// Outputs and gradients equal those of the oracle.
inline void check_oracle(const Case& test, const Inputs& in) {
  const auto attention = test.build();
  const auto output = attention->forward(in), expected = attention->oracle(in);
  CHECK(largest_difference(output, expected) < double_rounding);
  if (!expected.requires_grad()) return;
  const auto found = gradients(output, in, *attention), wanted = gradients(expected, in, *attention);
  for (size_t i = 0; i < found.size(); ++i) {
    INFO("gradient " << i << " (query, key, value, parameters)");
    CHECK(largest_difference(found[i], wanted[i]) < double_rounding);
  }
}

/// Decoding in pieces gives the rows of the full forward pass, and the state is as large as `cost` says.
inline void check_decoding(const Case& test, int64_t positions, const std::vector<int64_t>& pieces) {
  const torch::NoGradGuard guard;
  const auto attention = test.build();
  const auto in = test.inputs(positions);
  auto state = attention->new_state(test.batch, torch::TensorOptions().dtype(torch::kFloat64));
  std::vector<Tensor> outputs;
  int64_t from = 0;
  for (auto piece : pieces) {
    if (piece > positions - from) piece = positions - from;
    const auto cut = [&](const Tensor& x) { return x.narrow(2, from, piece); };
    outputs.push_back(attention->decode(
        {.query = cut(in.query), .key = cut(in.key), .value = cut(in.value), .key_padding = {}}, state));
    from += piece;
    INFO("after " << from << " positions");
    CHECK(state.length == from);
    const auto cost = variant_named(test.variant).cost(test.options, test.geometry, {test.batch, from, from});
    CHECK(state.bytes() == 2 * cost.state_bytes);  // cost is in float32, the state here in float64
  }
  REQUIRE(from == positions);
  CHECK(largest_difference(torch::cat(outputs, 2), attention->forward(in)) < double_rounding);
}

/// The formula equals what the dispatcher saw: exact, as both are sums of whole numbers.
inline void check_flops(const Case& test, int64_t queries, int64_t keys) {
  const torch::NoGradGuard guard;
  const auto attention = test.build();
  const auto in = test.inputs(queries, keys);
  double counted = 0;
  {
    const FlopCounter counter;
    attention->forward(in);
    counted = counter.total();
  }
  INFO(queries << " queries, " << keys << " keys");
  CHECK(variant_named(test.variant).cost(test.options, test.geometry, {test.batch, queries, keys}).executed_flops ==
        counted);
}

/// What stands at padded keys changes no output, and a row without real keys gives zeros or, with a
/// null pair, something finite.
inline void check_padding(const Case& test, int64_t positions) {
  const auto attention = test.build();
  const auto in = test.inputs(positions, positions, /*padded=*/true);
  const auto output = attention->forward(in);
  const auto padded = in.key_padding.logical_not().unsqueeze(1).unsqueeze(-1);
  auto changed = in;
  changed.key = in.key + padded * 100.0;
  changed.value = in.value - padded * 100.0;
  CHECK(largest_difference(attention->forward(changed), output) == 0);
  CHECK(output.isfinite().all().item<bool>());
}

/// float32 and bfloat16 stay near float64, and inputs of 1e4 stay finite with their gradients.
/// @param bfloat16_distance  outputs are means of values of size 1 to 3; bfloat16 keeps 8 bits
inline void check_precision(const Case& test, int64_t positions, double bfloat16_distance = 0.05) {
  for (const auto type : {torch::kFloat32, torch::kBFloat16}) {
    const auto in = test.inputs(positions);
    const auto narrow = [&](const Tensor& x, double scale) { return (x.detach() * scale).to(type).requires_grad_(); };
    const Inputs low{
        .query = narrow(in.query, 1), .key = narrow(in.key, 1), .value = narrow(in.value, 1), .key_padding = {}};
    const auto attention = test.build();
    const auto expected = attention->oracle(low);
    attention->to(type);
    const auto output = attention->forward(low);
    CHECK(output.scalar_type() == type);
    // 1e-4: float32 keeps 24 bits, 6e-8, times some hundred roundings in logits of size 10.
    CHECK(largest_difference(output, expected) < (type == torch::kFloat32 ? 1e-4 : bfloat16_distance));

    const Inputs extreme{
        .query = narrow(in.query, 1e4), .key = narrow(in.key, 1e4), .value = narrow(in.value, 1), .key_padding = {}};
    const auto far = attention->forward(extreme);
    CHECK(far.isfinite().all().item<bool>());
    for (const auto& gradient : gradients(far, extreme, *attention)) CHECK(gradient.isfinite().all().item<bool>());
  }
}

}  // namespace attnscale::testing

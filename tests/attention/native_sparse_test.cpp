#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "seen_keys.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

/// Gates that open one branch and close the others.
Inputs with_branch(Inputs in, int64_t branch) {
  auto gate = torch::full({in.query.size(0), in.query.size(1), in.query.size(2), 3}, -1e3, torch::kFloat64);
  gate.select(3, branch).fill_(1e3);
  in.gates["branches"] = gate;
  return in;
}

const Json native_sparse_options = {
    {"compress_length", 4}, {"compress_stride", 2}, {"block", 8}, {"selected_blocks", 8}, {"window", 9}};

Case native_sparse_case() {
  return {.variant = "native_sparse",
          .options = native_sparse_options,
          .geometry = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 4, .value_dim = 4, .context = 64}};
}

}  // namespace

TEST_CASE("native_sparse: with one gate open it is that branch alone") {
  const auto test = native_sparse_case();
  const auto in = test.inputs(64);
  const auto attention = test.build();
  const auto window = variant_named("sliding_window").make({{"window", 9}}, test.geometry);
  CHECK(largest_difference(attention->forward(with_branch(in, 2)), window->forward(in)) < double_rounding);
  // All eight blocks are selected.
  const auto all = variant_named("softmax").make(Json::object(), test.geometry);
  CHECK(largest_difference(attention->forward(with_branch(in, 1)), all->forward(in)) < double_rounding);
  // Before the first slot is complete there is nothing compressed to see.
  const auto compressed = attention->forward(with_branch(in, 0));
  CHECK(compressed.narrow(2, 0, 3).abs().max().item<double>() == 0);
  CHECK(compressed.select(2, 3).abs().min().item<double>() > 0);
}

TEST_CASE("native_sparse: compression starts as the mean of a block") {
  const auto test = native_sparse_case();
  const auto attention = variant_named("native_sparse").make(test.options, test.geometry);
  attention->to(torch::kFloat64);
  const auto in = test.inputs(5);
  // Position 3 sees the one slot of positions 0 to 3, with weight 1.
  const auto expected = in.value.narrow(2, 0, 4).mean(2).repeat_interleave(2, 1);
  CHECK(largest_difference(attention->forward(with_branch(in, 0)).select(2, 3), expected) < 1e-6);  // float32 weights
}

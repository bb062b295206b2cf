#include <cmath>

#include <ATen/ops/linalg_qr.h>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "hand_cases.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

constexpr double wide_open = 40;  // sigmoid is 1 to 4e-18

}  // namespace

TEST_CASE("delta: a key that comes again finds its latest value, and others keep theirs") {
  // beta = 1; three orthonormal keys, the first written twice. Values are 1, 2, 4, then 8 for the first key again.
  // 1e-5: the unit norm divides by sqrt(1 + 1e-6), twice.
  const auto key = rows({{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 0, 0}, {0, 1, 0}});
  const auto value = rows({{1}, {2}, {4}, {8}, {2}});
  for (const std::string name : {"delta", "rwkv7"}) {
    INFO(name);
    const auto attention = made(name, Json::object(), one_head(3, 1, 5));
    Inputs in{.query = rows({{1, 0, 0}, {1, 0, 0}, {0, 1, 0}, {1, 0, 0}, {1, 1, 1}}), .key = key, .value = value};
    if (name == "delta") in.gates["beta"] = gate_of(wide_open, 1, key);
    else in.gates = {{"decay", gate_of(-wide_open, 3, key)}, {"rate", gate_of(wide_open, 3, key)}};
    const auto y = attention->forward(in).flatten();
    const double last = name == "delta" ? (8 + 2 + 4) / std::sqrt(3.0) : 8 + 2 + 4;  // delta's queries are unit norm
    const std::vector<double> expected = {1, 1, 2, 8, last};
    for (int64_t t = 0; t < 5; ++t) CHECK(y[t].item<double>() == Catch::Approx(expected[t]).epsilon(1e-5));
  }
}

TEST_CASE("delta: with orthogonal keys it only adds, as linear attention without a normaliser does") {
  const Case test{.variant = "delta",
                  .options = {{"chunk_length", 3}},
                  .geometry = {.num_heads = 1, .num_kv_heads = 1, .head_dim = 8, .value_dim = 3, .context = 8},
                  .batch = 1};
  auto in = test.inputs(8);
  in.key = std::get<0>(torch::linalg_qr(in.key.detach())) * 1e3;  // long, so that their unit norm is exact
  in.query = in.query.detach() * 1e3;
  in.gates["beta"] = gate_of(wide_open, 1, in.key);
  const auto unit = [](const Tensor& x) { return x / x.norm(2, {-1}, true); };
  const auto expected = torch::matmul(torch::matmul(unit(in.query), unit(in.key).mT()).tril(), in.value);
  // 1e-11: 1e-6 under a root of 1e6.
  CHECK(largest_difference(test.build()->forward(in), expected) < double_rounding);
}

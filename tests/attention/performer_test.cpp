#include <cmath>

#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "hand_cases.h"
#include "random_feature_error.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

Case performer_case() {
  return {.variant = "performer",
          .geometry = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 4, .context = 32}};
}

}  // namespace

TEST_CASE("performer: the error falls as the square root of the number of features") {
  auto in = performer_case().inputs(32);
  const torch::NoGradGuard guard;
  in.query = in.query * 0.5;  // for long ones the estimate's distribution has a tail that ten draws do not know
  in.key = in.key * 0.5;
  const auto exact = causal_softmax(torch::matmul(in.query, in.key.mT()) / std::sqrt(8.0), in.value);
  const auto error = [&](int64_t m) {
    return random_feature_error("performer", m, performer_case().geometry, in, exact);
  };
  // 16 times the features, a quarter of the error; ten draws know a root mean square to some 20 per cent, and few
  // features carry a bias of the next order.
  const double few = error(128), many = error(2048);
  CHECK(few / many > 2.8);
  CHECK(few / many < 5.7);
  CHECK(many < 0.05);
}

TEST_CASE("performer: long keys, whose features all underflow, are saved by the stabiliser") {
  // |k|^2 / (2 sqrt(D)) is about 560: exp(-560) is 0 in float32. Keys are near each other, so that weights are not all
  // on one of them.
  const auto test = performer_case();
  const auto attention = test.build();
  const torch::NoGradGuard guard;
  auto in = test.inputs(32);
  in.key = in.key * 0.05 + 20;
  const auto exact = attention->oracle(in);  // float64 holds exp(-560)
  attention->to(torch::kFloat32);
  const auto low = attention->forward({.query = in.query.to(torch::kFloat32),
                                       .key = in.key.to(torch::kFloat32),
                                       .value = in.value.to(torch::kFloat32)});
  // Exponents of size 600 are known to 600 * 6e-8 = 4e-5 in float32, a few times over.
  CHECK(largest_difference(low, exact) < 2e-3);
}

TEST_CASE("performer: the rows of each block of D projections are orthogonal") {
  const auto attention = performer_case().build();
  const auto projection = attention->named_buffers()["projection"].to(torch::kFloat64);
  const auto rows = projection.flatten(0, -2);  // [.., D]
  for (int64_t first = 0; first + 8 <= rows.size(0); first += 8) {
    const auto block = rows.narrow(0, first, 8), products = at::matmul(block, block.t());
    // Lengths are those of normal vectors, about sqrt(8); they are drawn in float32, and 8 products round.
    CHECK((products - products.diag().diag()).abs().max().item<double>() < 1e-4);
    CHECK(products.diag().min().item<double>() > 0.01);
  }
}

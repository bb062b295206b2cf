#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "hand_cases.h"
#include "random_feature_error.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

Case random_feature_case() {
  return {.variant = "random_feature",
          .geometry = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 4, .context = 32}};
}

}  // namespace

TEST_CASE("random_feature: the error falls as the square root of the number of features") {
  auto in = random_feature_case().inputs(32);
  const torch::NoGradGuard guard;
  const auto unit = [](const Tensor& x) { return x / x.norm(2, {-1}, true); };
  const auto exact = causal_softmax(torch::matmul(unit(in.query), unit(in.key).mT()), in.value);
  // As for performer; the smallest number is large enough that no normaliser comes near its floor.
  const double few = random_feature_error("random_feature", 256, random_feature_case().geometry, in, exact),
               many = random_feature_error("random_feature", 4096, random_feature_case().geometry, in, exact);
  CHECK(few / many > 2.8);
  CHECK(few / many < 5.7);
}

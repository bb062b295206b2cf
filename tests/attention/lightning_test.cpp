#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "hand_cases.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("lightning: the last layer hardly decays, the first by its slope") {
  // H = 1: slope 2^-8. D = E = 1 and one position before: o_1 = q (exp(-s) f(k_0) f(v_0) + f(k_1) f(v_1)) with silu f.
  // The norm hides the size of a single number, so two values of which one is only in the past and one only in the
  // present show the ratio: exp(-s).
  for (const int64_t layer : {0, 3}) {
    auto geometry = one_head(1, 2, 2);
    geometry.layer = layer;
    geometry.depth = 4;
    const auto attention = made("lightning", Json::object(), geometry);
    Inputs in{.query = rows({{1}, {1}}), .key = rows({{1}, {1}}), .value = rows({{1, 0}, {0, 1}})};
    in.gates["output"] = gate_of(0, 2, in.value);
    const auto y = attention->forward(in).select(2, 1).flatten();
    const double fade = layer == 0 ? 1 + 1e-5 : 1 - 3 / (3 + 1e-5) + 1e-5;
    CHECK((y[0] / y[1]).item<double>() == Catch::Approx(std::exp(-fade / 256)).epsilon(1e-9));
  }
}

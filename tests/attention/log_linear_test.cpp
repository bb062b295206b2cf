#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "hand_cases.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("log_linear: each level of the tree holds its block of the past") {
  // All products q . k are 1, values are powers of two, nothing decays, steps are 1, no skip: the output of a query
  // with one level lit tells which positions are in it. Position 6 = 110 in bits: itself; no level 1, as its last bit
  // is 0; level 2 holds 4 and 5, level 3 holds 0 to 3.
  const auto attention = made("log_linear", {{"chunk_length", 2}}, one_head(1, 1, 8));
  auto parameters = attention->named_parameters();
  {
    const torch::NoGradGuard guard;
    parameters["log_rate"].fill_(-1000);
    parameters["step_bias"].zero_();
    parameters["skip"].zero_();
  }
  const auto ones = rows(std::vector<std::vector<double>>(8, {1}));
  const auto value = rows({{1}, {2}, {4}, {8}, {16}, {32}, {64}, {128}});
  const double to_one = std::log(std::exp(1.0) - 1);  // softplus of it is 1
  const std::vector<double> expected = {64, 0, 16 + 32, 1 + 2 + 4 + 8};
  for (int64_t level = 0; level < 4; ++level) {
    Inputs in{.query = ones, .key = ones, .value = value};
    in.gates["step"] = gate_of(to_one, 1, ones);
    in.gates["levels"] = gate_of(-1000, 4, ones);
    in.gates["levels"].select(-1, level).fill_(to_one);
    CHECK(attention->forward(in).flatten()[6].item<double>() == Catch::Approx(expected[level]).margin(1e-12));
  }
}

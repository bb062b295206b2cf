#include "model/position.h"

#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "attention/position_table.h"

using namespace attnscale;

TEST_CASE("sinusoidal positions: sines and cosines alternate, wavelengths grow to 10000 x 2 pi") {
  const auto table = sinusoidal_positions(50, 6);
  for (const int64_t t : {0, 1, 7, 49})
    for (int64_t i = 0; i < 3; ++i) {
      const double angle = static_cast<double>(t) / std::pow(10000.0, 2.0 * static_cast<double>(i) / 6.0);
      // The same formula with division for multiplication: one rounding of an angle up to 49.
      CHECK(table[t][2 * i].item<double>() == Catch::Approx(std::sin(angle)).margin(1e-13));
      CHECK(table[t][2 * i + 1].item<double>() == Catch::Approx(std::cos(angle)).margin(1e-13));
    }
}

TEST_CASE("sinusoidal positions: position t + k is a fixed linear map of position t (Vaswani et al., section 3.5)") {
  const auto table = sinusoidal_positions(40, 8);
  const auto from = table.narrow(0, 0, 30), to = table.narrow(0, 10, 30);  // k = 10
  for (int64_t i = 0; i < 4; ++i) {
    const double angle = 10 * std::pow(10000.0, -2.0 * static_cast<double>(i) / 8.0);
    const auto sine = from.select(1, 2 * i), cosine = from.select(1, 2 * i + 1);
    const auto expected = sine * std::cos(angle) + cosine * std::sin(angle);
    CHECK((to.select(1, 2 * i) - expected).abs().max().item<double>() < 1e-13);
  }
}

TEST_CASE("sinusoidal positions: an odd width ends in a sine") {
  CHECK(sinusoidal_positions(3, 5)[2][4].item<double>() == Catch::Approx(std::sin(2 * std::pow(1e4, -0.8))));
}

TEST_CASE("position table: rows keep float64 precision when a float64 model asks after a float32 one") {
  const auto exact = sinusoidal_positions(9, 4);
  PositionTable table(exact);
  CHECK(table.rows(2, 3, torch::empty({1}, torch::kFloat32)).dtype() == torch::kFloat32);
  CHECK(at::equal(table.rows(2, 3, torch::empty({1}, torch::kFloat64)), exact.narrow(0, 2, 3)));
}

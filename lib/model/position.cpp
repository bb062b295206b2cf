#include "model/position.h"

#include <cmath>

namespace attnscale {

Tensor sinusoidal_positions(int64_t context, int64_t model_dim) {
  auto table = torch::empty({context, model_dim}, torch::kFloat64);
  auto values = table.accessor<double, 2>();
  for (int64_t column = 0; column < model_dim; ++column) {
    const double frequency = std::pow(10000.0, -static_cast<double>(column / 2 * 2) / static_cast<double>(model_dim));
    for (int64_t t = 0; t < context; ++t) {
      const double angle = static_cast<double>(t) * frequency;
      values[t][column] = column % 2 == 0 ? std::sin(angle) : std::cos(angle);
    }
  }
  return table;
}

}  // namespace attnscale

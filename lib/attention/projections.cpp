#include "attention/projections.h"

#include <cmath>

#include <torch/types.h>

namespace attnscale {
namespace {

std::shared_ptr<Linear> projection_with(double std, int64_t in, int64_t out, bool with_bias) {
  auto layer = std::make_shared<Linear>(in, out, with_bias);
  const torch::NoGradGuard no_gradients;
  for (auto& item : layer->named_parameters()) {
    if (item.key() == "bias") item.value().zero_();
    else item.value().normal_(0, std);
  }
  return layer;
}

constexpr double projection_std = 0.02;

}  // namespace

std::shared_ptr<Linear> input_projection(int64_t in, int64_t out, bool with_bias) {
  return projection_with(projection_std, in, out, with_bias);
}

std::shared_ptr<Linear> output_projection(int64_t in, int64_t out, int64_t depth, bool with_bias) {
  return projection_with(projection_std / std::sqrt(2.0 * static_cast<double>(depth)), in, out, with_bias);
}

}  // namespace attnscale

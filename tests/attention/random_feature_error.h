#pragma once

#include <cmath>
#include <string>

#include "attention/registry.h"

namespace attnscale::testing {

/// Root mean square distance from what random features estimate, over ten draws of them.
inline double random_feature_error(const std::string& variant, int64_t num_features, const Geometry& geometry,
                                   const Inputs& in, const Tensor& estimated) {
  const torch::NoGradGuard guard;
  double sum = 0;
  for (int64_t seed = 0; seed < 10; ++seed) {
    torch::manual_seed(seed);
    const auto attention = variant_named(variant).make({{"num_features", num_features}}, geometry);
    attention->to(torch::kFloat64);
    sum += (attention->forward(in) - estimated).square().mean().item<double>();
  }
  return std::sqrt(sum / 10);
}

}  // namespace attnscale::testing

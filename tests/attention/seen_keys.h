#pragma once

#include <string>
#include <vector>

#include <ATen/ops/eye.h>
#include <ATen/ops/zeros.h>

#include "attention/registry.h"

// T positions

namespace attnscale::testing {

/// Which keys each query sees, by what the forward pass does: queries and keys are zero, so that weights are equal,
/// and values are unit vectors, so that the numbers of an output that are not zero are the keys seen. Each must have
/// the weight 1 / count, which a key counted twice would not have.
inline std::vector<std::vector<int64_t>> seen_keys(const std::string& variant, const Json& options, bool causal,
                                                   int64_t positions) {
  const Geometry geometry{.head_dim = 2, .value_dim = positions, .context = positions, .causal = causal};
  const auto zero = at::zeros({1, 1, positions, 2}, torch::kFloat64);
  const auto unit = at::eye(positions, torch::kFloat64).view({1, 1, positions, positions});
  auto attention = variant_named(variant).make(options, geometry);
  attention->to(torch::kFloat64);
  const auto output = attention->forward({.query = zero, .key = zero, .value = unit})[0][0];
  std::vector<std::vector<int64_t>> result;
  for (int64_t t = 0; t < positions; ++t) {
    auto& seen = result.emplace_back();
    for (int64_t i = 0; i < positions; ++i)
      if (output[t][i].item<double>() > 0) seen.push_back(i);
    for (const int64_t i : seen) {
      // 1e-12: a quotient of whole numbers in float64.
      CHECK(std::abs(output[t][i].item<double>() * static_cast<double>(seen.size()) - 1) < 1e-12);
    }
  }
  return result;
}

using Seen = std::vector<int64_t>;

}  // namespace attnscale::testing

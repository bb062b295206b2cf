#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/ops/masked_fill.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/generated/variable_factories.h>

#include "attention/registry.h"

// Inputs that are written out by hand, and what small cases are compared with.

namespace attnscale::testing {

/// [1, 1, T, width] in float64 from its rows.
inline Tensor rows(const std::vector<std::vector<double>>& x) {
  std::vector<Tensor> result;
  for (const auto& row : x) result.push_back(torch::tensor(row, torch::kFloat64));
  return at::stack(result).unsqueeze(0).unsqueeze(0);
}

/// A gate of one value: [B, H, T, width] with the sizes of `like`.
inline Tensor gate_of(double value, int64_t width, const Tensor& like) {
  return torch::full({like.size(0), like.size(1), like.size(2), width}, value, torch::kFloat64);
}

/// In float64, with its initial parameters.
inline std::shared_ptr<Attention> made(const std::string& name, const Json& options, const Geometry& geometry) {
  torch::manual_seed(1);
  auto attention = variant_named(name).make(options, geometry);
  attention->to(torch::kFloat64);
  return attention;
}

inline Geometry one_head(int64_t d, int64_t e, int64_t context) {
  return {.head_dim = d, .value_dim = e, .context = context};
}

/// Softmax attention by definition, over logits [.., T, T].
inline Tensor causal_softmax(const Tensor& logits, const Tensor& value) {
  const auto later = at::ones_like(logits, torch::kBool).triu(1);
  return at::matmul(at::softmax(logits.masked_fill(later, -INFINITY), -1), value);
}

}  // namespace attnscale::testing

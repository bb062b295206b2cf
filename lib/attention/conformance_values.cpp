// Conformance, first theme: the numbers. Oracle, finite differences, extreme logits, lower
// precision, and the same bits for the same seed.

#include <cmath>

#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <fmt/format.h>

#include "attention/conformance_case.h"
#include "attention/masks.h"
#include "tensor/precision.h"

namespace attnscale::conformance {
namespace {

// Both sides are float64 and sum up to 65 x 8 terms in different orders: 500 roundings of 1e-16,
// with room for cancellation in quotients.
constexpr double output_tolerance = 1e-11;
constexpr double gradient_tolerance = 1e-10;

// Central differences with step 1e-5: rounding 1e-16 / 1e-5, truncation of the order 1e-10.
constexpr double difference_step = 1e-5;
constexpr double difference_tolerance = 1e-7;

// A few hundred roundings of 6e-8 partly cancel.
constexpr double float32_tolerance = 1e-5;
// Eight bits: a rounding is 2^-9; intermediate results round several times.
constexpr double bfloat16_tolerance = 0.04;

void compare_with_oracle(const Case& test, Attention& attention, const Inputs& inputs, const std::string& where,
                         const std::string& outputs, Recorder& record) {
  const auto found = distance_from_oracle(test, attention, inputs);
  record.note(outputs, found.outputs, output_tolerance, where);
  record.note("oracle_gradients", found.gradients, gradient_tolerance, where + ", " + found.worst);
}

void check_oracle(const Case& test, Attention& attention, Recorder& record) {
  for (const int64_t length : test.oracle_lengths) {
    compare_with_oracle(test, attention, test.inputs(1, length, length), test.at(length), "oracle_outputs", record);
    if (test.has(Trait::logit_bias)) {
      auto biased = test.inputs(2, length, length);
      biased.bias = at::randn({1, test.geometry.num_heads, length, length}, torch::kFloat64).requires_grad_(true);
      compare_with_oracle(test, attention, biased, test.at(length) + ", with a bias", "oracle_outputs", record);
    }
    if (!test.has(Trait::padding)) continue;
    auto padded = test.inputs(2, length, length);
    padded.key_padding = ragged_padding(length).slice(0, 1);  // the row that is all real was just done
    compare_with_oracle(test, attention, padded, test.at(length) + ", padded", "oracle_outputs", record);
  }
  if (!test.has(Trait::cross) || test.geometry.causal) return;
  const int64_t longest = test.geometry.context, few = std::min<int64_t>(3, longest);
  compare_with_oracle(test, attention, test.inputs(1, few, longest), test.at(few) + fmt::format(", S={}", longest),
                      "oracle_cross", record);
  compare_with_oracle(test, attention, test.inputs(1, longest, few), test.at(longest) + fmt::format(", S={}", few),
                      "oracle_cross", record);
}

/// Slopes along random unit directions, one tensor at a time.
void check_differences(const Case& test, Attention& attention, Recorder& record) {
  const int64_t length = std::min<int64_t>(13, test.geometry.context);
  const auto inputs = test.inputs(2, length, length);
  const auto output = attention.forward(inputs);
  torch::manual_seed(test.seed + 3);
  const auto weight = at::randn_like(output.detach());
  const auto by = leaves(inputs, &attention);
  const auto slopes = gradients(output, weight, by);
  const torch::NoGradGuard no_gradients;
  const auto value_at = [&](const Tensor& tensor, const Tensor& step) {
    tensor.add_(step);
    const auto value = (attention.forward(inputs) * weight).sum().item<double>();
    tensor.sub_(step);
    return value;
  };
  for (size_t i = 0; i < by.size(); ++i) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      auto direction = at::randn_like(slopes[i]);
      direction /= direction.norm();
      const auto step = direction * difference_step;
      const double measured = (value_at(by[i].tensor, step) - value_at(by[i].tensor, -step)) / (2 * difference_step);
      const double slope = (slopes[i] * direction).sum().item<double>();
      const double scale = std::max(slopes[i].norm().item<double>(), 1.0);
      record.note("finite_differences", std::abs(measured - slope) / scale, difference_tolerance,
                  test.at(length) + ", " + by[i].name);
    }
  }
}

/// Query and key made larger, so that the largest q . k / sqrt(D) is `extreme`.
void scale_logits_to(double extreme, Inputs& inputs, const Geometry& geometry) {
  const auto key = repeat_heads(inputs.key, geometry.num_heads);
  const double logit =
      largest(at::matmul(inputs.query, key.transpose(-1, -2))) / std::sqrt(static_cast<double>(geometry.head_dim));
  const double factor = std::sqrt(extreme / logit);
  inputs.query = inputs.query.detach() * factor;
  inputs.key = inputs.key.detach() * factor;
}

/// Logits up to 1e4 in size, outputs and gradients, in the dtype of training.
void check_extremes(const Case& test, Recorder& record) {
  constexpr double extreme = 1e4;
  const auto attention = test.make(torch::kFloat32);
  const int64_t length = test.geometry.context;
  auto inputs = test.inputs(2, length, length);
  if (test.has(Trait::owns_projections)) {
    // Logits come from products of two projections, so a stream a hundred times as large makes them 1e4 as large.
    inputs = mapped(inputs, [](const Tensor& tensor) { return tensor * std::sqrt(extreme); });
  } else {
    scale_logits_to(extreme, inputs, test.geometry);
  }
  inputs = as_leaves(inputs, torch::kFloat32);
  const auto output = attention->forward(inputs);
  record.note("extreme_logits", static_cast<double>(count_non_finite(output)), 0, test.at(length) + ", output");
  const auto by = leaves(inputs, attention.get());
  const auto slopes = gradients(output, at::ones_like(output.detach()), by);
  for (size_t i = 0; i < by.size(); ++i)
    record.note("extreme_logits", static_cast<double>(count_non_finite(slopes[i])), 0,
                test.at(length) + ", gradient to " + by[i].name);
}

/// Both sides start from the same rounded inputs and parameters, so that only the arithmetic differs.
void check_precision(const Case& test, torch::Dtype dtype, const std::string& name, double tolerance,
                     Recorder& record) {
  const torch::NoGradGuard no_gradients;
  const auto attention = test.make(dtype);
  const int64_t length = test.geometry.context;
  const auto inputs = as_leaves(test.inputs(2, length, length), dtype);
  const auto output = attention->forward(inputs);
  if (output.scalar_type() != dtype) return record.note(name, INFINITY, tolerance, test.at(length) + ", wrong dtype");
  attention->to(torch::kFloat64);
  const auto exact = attention->forward(as_leaves(inputs, torch::kFloat64));
  record.note(name, norm_distance(output, exact, test.outliers(name)), tolerance, test.at(length));
}

/// As in training with dtype bfloat16: parameters stay float32, inputs come out of bfloat16 projections,
/// and matrix products are cast down unless the variant forbids it.
void check_mixed_precision(const Case& test, Recorder& record) {
  const torch::NoGradGuard no_gradients;
  const std::string name = "mixed_precision_distance";
  const auto attention = test.make(torch::kFloat32);
  const int64_t length = test.geometry.context;
  const auto inputs = as_leaves(test.inputs(2, length, length), torch::kBFloat16);
  Tensor output;
  {
    const ForwardPrecision precision("bfloat16");
    output = attention->forward(inputs);
  }
  attention->to(torch::kFloat64);
  const auto exact = attention->forward(as_leaves(inputs, torch::kFloat64));
  record.note(name, norm_distance(output, exact, test.outliers(name)), bfloat16_tolerance, test.at(length));
}

void check_bits(const Case& test, Recorder& record) {
  const int64_t length = test.geometry.context;
  const auto inputs = as_leaves(test.inputs(2, length, length), torch::kFloat32);
  const auto run = [&](Attention& attention) {
    torch::manual_seed(test.seed);
    const auto output = attention.forward(inputs);
    auto all = gradients(output, at::ones_like(output.detach()), leaves(inputs, &attention));
    all.push_back(output.detach());
    for (const auto& parameter : attention.parameters()) all.push_back(parameter.detach());
    return all;
  };
  const auto one = test.make(torch::kFloat32), other = test.make(torch::kFloat32);
  const auto first = run(*one), again = run(*one), fresh = run(*other);
  int64_t different = 0;
  for (size_t i = 0; i < first.size(); ++i)
    different += !at::equal(first[i], again[i]) + !at::equal(first[i], fresh[i]);
  record.note("deterministic", static_cast<double>(different), 0, test.at(length));
}

}  // namespace

void check_values(const Case& test, Recorder& record) {
  const auto attention = test.make();
  check_oracle(test, *attention, record);
  check_differences(test, *attention, record);
  check_extremes(test, record);
  check_precision(test, torch::kFloat32, "float32_distance", float32_tolerance, record);
  check_precision(test, torch::kBFloat16, "bfloat16_distance", bfloat16_tolerance, record);
  check_mixed_precision(test, record);
  check_bits(test, record);
}

}  // namespace attnscale::conformance

#include "attention/conformance_case.h"

#include <cmath>
#include <limits>

#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

namespace attnscale::conformance {

void Recorder::note(const std::string& name, double measured, double tolerance, const std::string& where) {
  if (stop_ && stop_()) throw Stopped();
  auto found = std::find_if(checks_.begin(), checks_.end(), [&](const Check& c) { return c.name == name; });
  const bool is_new = found == checks_.end();
  if (is_new) {
    found = checks_.insert(checks_.end(), {.name = name, .tolerance = tolerance});
    if (const auto deviation = deviations_.find(name); deviation != deviations_.end()) {
      found->tolerance = deviation->second.tolerance;
      found->declared = deviation->second.reason;
      if (const double share = deviation->second.outliers; share > 0)
        found->declared += fmt::format("; said of all rows but the worst {:.0f} %", 100 * share);
    }
  }
  if (std::isnan(measured)) measured = std::numeric_limits<double>::infinity();
  if (!is_new && measured <= found->measured) return;
  found->measured = measured;
  found->passed = measured <= found->tolerance;
  found->detail = measured > 0 ? where : "";
}

void Recorder::require(const std::string& name) {
  if (std::any_of(checks_.begin(), checks_.end(), [&](const Check& c) { return c.name == name; })) return;
  note(name, std::numeric_limits<double>::infinity(), 0, "nothing was recorded: no configuration came as far as this");
}

std::string Case::place() const {
  return fmt::format("{}, {}, H={} G={} D={} E={}", options.dump(), geometry.causal ? "causal" : "bidirectional",
                     geometry.num_heads, geometry.num_kv_heads, geometry.head_dim, geometry.value_dim);
}

std::string Case::at(int64_t length) const { return fmt::format("{}, T={}", place(), length); }

double Case::outliers(const std::string& check) const {
  const auto found = variant.deviations.find(check);
  return found == variant.deviations.end() ? 0 : found->second.outliers;
}

std::shared_ptr<Attention> Case::make(torch::Dtype dtype) const {
  torch::manual_seed(seed);
  auto attention = variant.make(options, geometry);
  attention->to(torch::kFloat64);
  {
    const torch::NoGradGuard no_gradients;
    for (auto& parameter : attention->parameters()) parameter.add_(at::randn_like(parameter), 0.1);
  }
  if (dtype != torch::kFloat64) attention->to(dtype);
  return attention;
}

Inputs Case::inputs(int64_t batch, int64_t queries, int64_t keys) const {
  latest_inputs = fmt::format("B={} T={} S={}", batch, queries, keys);
  torch::manual_seed(seed + 1);
  const auto draw = [](std::vector<int64_t> sizes) {
    return at::randn(sizes, torch::dtype(torch::kFloat64)).requires_grad_(true);
  };
  const auto& g = geometry;
  if (has(Trait::owns_projections)) return {.hidden = draw({batch, 1, queries, g.model_dim})};
  Inputs inputs{.query = draw({batch, g.num_heads, queries, g.head_dim}),
                .key = draw({batch, g.num_kv_heads, keys, g.head_dim}),
                .value = draw({batch, g.num_kv_heads, keys, g.value_dim})};
  for (const auto& gate : variant.gates(options, geometry))
    inputs.gates[gate.name] = draw({batch, g.num_heads, queries, gate.width});
  return inputs;
}

Tensor ragged_padding(int64_t keys) {
  auto padding = at::ones({3, keys}, torch::kBool);
  if (keys > 1) padding[1][0] = false;
  padding[1].slice(0, keys - keys / 3) = false;
  padding[2] = false;
  return padding;
}

std::vector<Leaf> leaves(const Inputs& inputs, const Attention* attention) {
  std::vector<Leaf> result;
  if (inputs.hidden.defined()) result = {{"hidden", inputs.hidden}};
  else result = {{"query", inputs.query}, {"key", inputs.key}, {"value", inputs.value}};
  for (const auto& [name, gate] : inputs.gates) result.push_back({"gate " + name, gate});
  if (inputs.bias.defined()) result.push_back({"bias", inputs.bias});
  if (attention)
    for (const auto& item : attention->named_parameters()) result.push_back({"parameter " + item.key(), item.value()});
  return result;
}

std::vector<Tensor> gradients(const Tensor& output, const Tensor& weight, const std::vector<Leaf>& leaves) {
  std::vector<Tensor> inputs;
  for (const auto& leaf : leaves) inputs.push_back(leaf.tensor);
  std::vector<Tensor> result(inputs.size());
  if (output.requires_grad())
    result = torch::autograd::grad({(output * weight).sum()}, inputs, {}, /*retain_graph=*/true,
                                   /*create_graph=*/false, /*allow_unused=*/true);
  for (size_t i = 0; i < result.size(); ++i)
    if (!result[i].defined()) result[i] = at::zeros_like(inputs[i]);
  return result;
}

Inputs mapped(const Inputs& inputs, const std::function<Tensor(const Tensor&)>& change) {
  const auto leaf = [&](const Tensor& tensor) {
    return tensor.defined() ? change(tensor.detach()).clone().requires_grad_(true) : tensor;
  };
  Inputs result{.query = leaf(inputs.query),
                .key = leaf(inputs.key),
                .value = leaf(inputs.value),
                .hidden = leaf(inputs.hidden),
                .key_padding = inputs.key_padding,
                .bias = leaf(inputs.bias)};
  for (const auto& [name, gate] : inputs.gates) result.gates[name] = leaf(gate);
  return result;
}

Inputs as_leaves(const Inputs& inputs, torch::Dtype dtype) {
  return mapped(inputs, [&](const Tensor& tensor) { return tensor.to(dtype); });
}

double largest(const Tensor& tensor) { return tensor.numel() == 0 ? 0 : tensor.detach().abs().max().item<double>(); }

int64_t count_non_finite(const Tensor& tensor) { return tensor.isfinite().logical_not().sum().item<int64_t>(); }

double distance(const Tensor& a, const Tensor& b) {
  const auto left = a.detach().to(torch::kFloat64), right = b.detach().to(torch::kFloat64);
  if (left.sizes() != right.sizes() || count_non_finite(left) || count_non_finite(right))
    return std::numeric_limits<double>::infinity();
  const double difference = largest(left - right);
  return difference == 0 ? 0 : difference / std::max(largest(right), std::numeric_limits<double>::min());
}

double norm_distance(const Tensor& a, const Tensor& b, double outliers) {
  if (count_non_finite(a) || count_non_finite(b)) return std::numeric_limits<double>::quiet_NaN();
  const auto exact = b.detach().to(torch::kFloat64).flatten(0, -2);
  const auto off = (a.detach().to(torch::kFloat64).flatten(0, -2) - exact).square().sum(-1);  // [rows]
  if (outliers == 0) return std::sqrt(off.sum().item<double>() / exact.square().sum().item<double>());
  const auto kept = static_cast<int64_t>(std::ceil((1 - outliers) * static_cast<double>(off.size(0))));
  const auto near = off.argsort().narrow(0, 0, kept);
  return std::sqrt(off.index_select(0, near).sum().item<double>() /
                   exact.index_select(0, near).square().sum().item<double>());
}

OracleDistance distance_from_oracle(const Case& test, Attention& attention, const Inputs& inputs) {
  const auto output = attention.forward(inputs);
  const auto expected = attention.oracle(inputs);
  OracleDistance result{.outputs = distance(output, expected), .gradients = 0};
  torch::manual_seed(test.seed + 2);
  const auto weight = at::randn_like(expected.detach());
  const auto by = leaves(inputs, &attention);
  const auto actual_gradients = gradients(output, weight, by);
  const auto expected_gradients = gradients(expected, weight, by);
  // One scale for all tensors: a gradient that should vanish (the query's, for a single key) is noise.
  double scale = 0;
  for (const auto& gradient : expected_gradients) scale = std::max(scale, largest(gradient));
  for (size_t i = 0; i < by.size(); ++i) {
    double off = largest(actual_gradients[i] - expected_gradients[i]) / std::max(scale, 1e-300);
    if (std::isnan(off)) off = std::numeric_limits<double>::infinity();
    if (i == 0 || off > result.gradients) result.gradients = off, result.worst = by[i].name;
  }
  return result;
}

Inputs piece_of(const Inputs& inputs, int64_t begin, int64_t end) {
  return mapped(inputs, [&](const Tensor& tensor) { return tensor.slice(2, begin, end); });
}

std::vector<std::vector<int64_t>> splits(int64_t length) {
  const auto cut = [&](std::vector<int64_t> sizes, int64_t then) {
    std::vector<int64_t> result;
    int64_t left = length;
    for (size_t i = 0; left > 0; ++i) {
      result.push_back(std::min(left, i < sizes.size() ? sizes[i] : then));
      left -= result.back();
    }
    return result;
  };
  return {cut({}, 1), cut({}, 7), cut({}, length), cut({1, 7}, length)};
}

}  // namespace attnscale::conformance

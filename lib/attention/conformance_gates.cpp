// Conformance, seventh theme: gates at their ends. A decay that forgets all at once has a logarithm far below zero, one
// that forgets nothing almost zero: what divides by a decay, or takes exp of a sum of them, breaks there.

#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randint.h>
#include <fmt/format.h>

#include "attention/conformance_case.h"

namespace attnscale::conformance {
namespace {

// Before the sigmoid or softplus that makes a gate of it. log sigmoid(-50) = -50, log sigmoid(14) = -8e-7, and the
// other way round for a decay of exp(-softplus); -600 for gates whose logarithm is divided (gated_linear, by 16).
const std::vector<double>& extreme_values() {
  static const std::vector<double> values = {-600, -50, -14, 14, 50};
  return values;
}

// Differences of running sums of logarithms, which reach 65 x 600 x 16: six of float64's digits are lost.
constexpr double extreme_tolerance = 1e-10;

/// Each number one of the extreme values, at random.
Tensor mixed_extremes(at::IntArrayRef sizes) {
  const auto index = at::randint(static_cast<int64_t>(extreme_values().size()), sizes, torch::dtype(torch::kInt64));
  return torch::tensor(extreme_values(), torch::kFloat64).index_select(0, index.flatten()).view(sizes);
}

/// Three rows: every number by itself; long shut, then long open; and the other way round, less so.
Inputs with_extreme_gates(const Inputs& inputs, uint64_t seed) {
  torch::manual_seed(seed + 9);
  auto result = mapped(inputs, [](const Tensor& tensor) { return tensor; });
  for (auto& [name, gate] : result.gates) {
    auto drawn = gate.detach().clone();
    const int64_t half = drawn.size(2) / 2;
    drawn[0].copy_(mixed_extremes(drawn[0].sizes()));
    drawn[1].slice(1, 0, half).fill_(-50), drawn[1].slice(1, half).fill_(14);
    drawn[2].slice(1, 0, half).fill_(50), drawn[2].slice(1, half).fill_(-14);
    gate = drawn.requires_grad_(true);
  }
  return result;
}

void compare_at_extremes(const Case& test, Attention& attention, const Inputs& inputs, const std::string& where,
                         Recorder& record) {
  const auto found = distance_from_oracle(test, attention, inputs);
  record.note("extreme_gates", found.outputs, extreme_tolerance, where + ", outputs");
  record.note("extreme_gates", found.gradients, extreme_tolerance, where + ", gradient to " + found.worst);
  if (!test.geometry.causal || !test.has(Trait::incremental)) return;
  const torch::NoGradGuard no_gradients;
  const auto whole = attention.forward(inputs);
  for (const auto& split : splits(test.geometry.context)) {
    auto state = attention.new_state(whole.size(0), torch::kFloat64);
    std::vector<Tensor> parts;
    for (int64_t at = 0; const auto size : split) {
      parts.push_back(attention.decode(piece_of(inputs, at, at + size), state));
      at += size;
    }
    record.note("extreme_gates_decode", distance(at::cat(parts, 2), whole), extreme_tolerance,
                where + fmt::format(", first chunk {}, {} chunks", split[0], split.size()));
  }
}

/// Non-finite numbers in outputs and gradients, in the dtype of training, whose exp ends at 88.
void check_finite_in_float32(const Case& test, const Inputs& extreme, Recorder& record) {
  const auto attention = test.make(torch::kFloat32);
  const auto inputs = as_leaves(extreme, torch::kFloat32);
  const auto output = attention->forward(inputs);
  const auto by = leaves(inputs, attention.get());
  const auto slopes = gradients(output, at::ones_like(output.detach()), by);
  auto bad = count_non_finite(output);
  std::string names;
  for (size_t i = 0; i < by.size(); ++i)
    if (const auto count = count_non_finite(slopes[i]); count > 0) bad += count, names += ", gradient to " + by[i].name;
  record.note("extreme_gates", static_cast<double>(bad), extreme_tolerance,
              test.at(test.geometry.context) + fmt::format(", {} numbers not finite in float32{}", bad, names));
}

}  // namespace

void check_gates(const Case& test, Recorder& record) {
  const auto attention = test.make();
  const int64_t length = test.geometry.context;
  const auto& parameters = test.variant.gate_parameters;
  if (!test.variant.gates(test.options, test.geometry).empty()) {
    const auto inputs = with_extreme_gates(test.inputs(3, length, length), test.seed);
    compare_at_extremes(test, *attention, inputs, test.at(length), record);
    check_finite_in_float32(test, inputs, record);
  }
  if (parameters.empty()) return;
  auto own = attention->named_parameters();
  for (const double value : {-50.0, -14.0, 14.0, 50.0}) {
    const torch::NoGradGuard no_gradients;
    for (const auto& name : parameters) {
      auto* parameter = own.find(name);
      if (!parameter) throw std::logic_error(fmt::format("gate_parameters: no parameter \"{}\"", name));
      parameter->fill_(value);
    }
    const torch::AutoGradMode with_gradients(true);
    compare_at_extremes(test, *attention, test.inputs(1, length, length),
                        test.at(length) + fmt::format(", {} = {}", parameters.front(), value), record);
  }
}

}  // namespace attnscale::conformance

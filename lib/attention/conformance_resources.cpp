// Conformance, third theme: what it costs. Decoding and its state, FLOPs, parameters.

#include <cmath>

#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include "attention/conformance_case.h"
#include "tensor/flop_counter.h"

namespace attnscale::conformance {
namespace {

// The same sums as the oracle's, in another order.
constexpr double decode_tolerance = 1e-11;

// As of a forward pass in float32 (conformance_values.cpp), with the cache or the state rounded at every step.
constexpr double decode_float32_tolerance = 1e-5;

/// As if saved and read back: a variant that kept anything elsewhere, or shares memory with its caller, would differ.
State restored(const State& state) {
  State copy{.length = state.length, .tensors = {}};
  for (const auto& [name, tensor] : state.tensors) copy.tensors[name] = tensor.clone();
  return copy;
}

void check_decoding(const Case& test, Recorder& record) {
  const torch::NoGradGuard no_gradients;
  constexpr int64_t batch = 2;
  const auto attention = test.make();
  for (const int64_t length : test.lengths) {
    const auto inputs = test.inputs(batch, length, length);
    const auto whole = attention->forward(inputs);
    for (const auto& split : splits(length)) {
      auto state = attention->new_state(batch, torch::kFloat64);
      std::vector<Tensor> parts;
      for (int64_t at = 0; const auto size : split) {
        state = restored(state);
        parts.push_back(attention->decode(piece_of(inputs, at, at + size), state));
        at += size;
        if (state.length != at) throw std::runtime_error("decode did not add the new positions to State::length");
      }
      record.note("decode_equals_forward", distance(at::cat(parts, 2), whole), decode_tolerance,
                  test.at(length) + fmt::format(", first chunk {}, {} chunks", split[0], split.size()));
    }
  }
}

/// In float32, the unit of `Cost::state_bytes`; its outputs are held against one forward pass in float64.
void check_float32_decoding(const Case& test, Recorder& record) {
  const torch::NoGradGuard no_gradients;
  constexpr int64_t batch = 2;
  const auto attention = test.make(torch::kFloat32);
  const int64_t length = test.geometry.context;
  const auto inputs = as_leaves(test.inputs(batch, length, length), torch::kFloat32);
  attention->to(torch::kFloat64);
  const auto exact = attention->forward(as_leaves(inputs, torch::kFloat64));
  attention->to(torch::kFloat32);
  for (const auto& split : splits(length)) {
    auto state = attention->new_state(batch, torch::kFloat32);
    std::vector<Tensor> parts;
    for (int64_t at = 0; const auto size : split) {
      parts.push_back(attention->decode(piece_of(inputs, at, at + size), state));
      at += size;
      const auto claimed =
          test.variant.cost(test.options, test.geometry, {.batch = batch, .queries = size, .keys = at}).state_bytes;
      record.note("state_bytes", std::abs(static_cast<double>(state.bytes() - claimed)), 0,
                  test.at(at) + fmt::format(", measured {}, claimed {}", state.bytes(), claimed));
    }
    const std::string name = "decode_float32_distance";
    record.note(name, norm_distance(at::cat(parts, 2), exact, test.outliers(name)), decode_float32_tolerance,
                test.at(length) + fmt::format(", first chunk {}, {} chunks", split[0], split.size()));
  }
}

void check_executed_flops(const Case& test, Recorder& record) {
  const torch::NoGradGuard no_gradients;
  const auto attention = test.make(torch::kFloat32);
  const auto compare = [&](int64_t queries, int64_t keys) {
    constexpr int64_t batch = 2;
    const auto inputs = as_leaves(test.inputs(batch, queries, keys), torch::kFloat32);
    const FlopCounter counter;
    attention->forward(inputs);
    const double seen = counter.total();
    const double claimed =
        test.variant.cost(test.options, test.geometry, {.batch = batch, .queries = queries, .keys = keys})
            .executed_flops;
    record.note("executed_flops", std::abs(seen - claimed), 0,
                test.at(queries) + fmt::format(", S={}, seen {}, claimed {}", keys, seen, claimed));
  };
  for (const int64_t length : test.lengths) compare(length, length);
  if (!test.has(Trait::cross) || test.geometry.causal) return;
  compare(std::min<int64_t>(3, test.geometry.context), test.geometry.context);
  compare(test.geometry.context, std::min<int64_t>(3, test.geometry.context));
}

void check_parameter_count(const Case& test, Recorder& record) {
  int64_t counted = 0;
  for (const auto& parameter : test.make()->parameters()) counted += parameter.numel();
  const auto claimed = test.variant.parameter_count(test.options, test.geometry);
  record.note("parameter_count", std::abs(static_cast<double>(counted - claimed)), 0,
              test.at(test.geometry.context) + fmt::format(", counted {}, claimed {}", counted, claimed));
}

}  // namespace

void check_resources(const Case& test, Recorder& record) {
  if (test.geometry.causal && test.has(Trait::incremental)) {
    check_decoding(test, record);
    check_float32_decoding(test, record);
  }
  check_executed_flops(test, record);
  check_parameter_count(test, record);
}

}  // namespace attnscale::conformance

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

// Lower-order terms at T = 2^16 are below one per cent of the leading one.
constexpr double growth_tolerance = 0.02;

/// Positions from `begin` to `end` of everything.
Inputs chunk(const Inputs& inputs, int64_t begin, int64_t end) {
  return mapped(inputs, [&](const Tensor& tensor) { return tensor.slice(2, begin, end); });
}

/// Ways to cut `length` positions: singly, by seven, whole, and one, seven, the rest.
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
        parts.push_back(attention->decode(chunk(inputs, at, at + size), state));
        at += size;
        if (state.length != at) throw std::runtime_error("decode did not add the new positions to State::length");
      }
      record.note("decode_equals_forward", distance(at::cat(parts, 2), whole), decode_tolerance,
                  test.at(length) + fmt::format(", first chunk {}, {} chunks", split[0], split.size()));
    }
  }
}

/// In float32, the unit of `Cost::state_bytes`.
void check_state_bytes(const Case& test, Recorder& record) {
  const torch::NoGradGuard no_gradients;
  constexpr int64_t batch = 2;
  const auto attention = test.make(torch::kFloat32);
  const int64_t length = test.geometry.context;
  const auto inputs = as_leaves(test.inputs(batch, length, length), torch::kFloat32);
  for (const auto& split : splits(length)) {
    auto state = attention->new_state(batch, torch::kFloat32);
    for (int64_t at = 0; const auto size : split) {
      attention->decode(chunk(inputs, at, at + size), state);
      at += size;
      const auto claimed =
          test.variant.cost(test.options, test.geometry, {.batch = batch, .queries = size, .keys = at}).state_bytes;
      record.note("state_bytes", std::abs(static_cast<double>(state.bytes() - claimed)), 0,
                  test.at(at) + fmt::format(", measured {}, claimed {}", state.bytes(), claimed));
    }
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

/// The part of a formula that speaks of one mode: `T k; causal: T^2 / c` has two, others one for both.
std::string part_for(const std::string& formula, bool causal) {
  static const std::string mark = "; causal: ";
  const auto at = formula.find(mark);
  if (at == std::string::npos) return formula;
  return causal ? formula.substr(at + mark.size()) : formula.substr(0, at);
}

/// log2 of what doubling T from 2^16.5 does, by the highest power of T in a formula in plain text.
double declared_exponent(const std::string& formula) {
  double exponent = 0;
  for (size_t at = formula.find('T'); at != std::string::npos; at = formula.find('T', at + 1)) {
    const bool inside_word = (at > 0 && std::isalnum(static_cast<unsigned char>(formula[at - 1]))) ||
                             (at + 1 < formula.size() && std::isalnum(static_cast<unsigned char>(formula[at + 1])));
    if (inside_word) continue;
    const auto rest = formula.substr(at + 1);
    double power = 1;
    if (rest.starts_with("^")) power = std::stod(rest.substr(1));
    else if (rest.starts_with(" log T")) power += std::log2(17.5 / 16.5);  // log T from 2^16.5 to 2^17.5
    exponent = std::max(exponent, power);
  }
  return exponent;
}

void check_growth(const Case& test, Recorder& record) {
  constexpr int64_t length = 1 << 16;
  auto geometry = test.geometry;
  geometry.context = 4 * length;
  if (!refusals(test.variant, test.options, geometry).empty()) return;
  const auto flops = [&](int64_t positions) {
    return test.variant.cost(test.options, geometry, {.batch = 1, .queries = positions, .keys = positions})
        .algorithmic_flops;
  };
  const double declared = declared_exponent(part_for(test.variant.time_complexity, geometry.causal));
  for (const int64_t from : {length, 2 * length}) {
    const double grown = std::log2(flops(2 * from) / flops(from));
    record.note("algorithmic_growth", std::abs(grown - declared), growth_tolerance,
                test.at(from) + fmt::format(", T^{:.3f} by cost, T^{:.3f} by \"{}\"", grown, declared,
                                            test.variant.time_complexity));
  }
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
    check_state_bytes(test, record);
  }
  check_executed_flops(test, record);
  check_growth(test, record);
  check_parameter_count(test, record);
}

}  // namespace attnscale::conformance

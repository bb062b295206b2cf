// The recurrence kernel against its definition, position by position in float64 by LibTorch's plain operators: outputs
// and gradients, in sizes that fill no chunk. Tolerances as in kernels_test.cpp.

#include "tensor/kernels/recurrence_kernel.h"

#include <cmath>

#include <ATen/ATen.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "tensor/flop_counter.h"
#include "tensor/kernel_checks.h"
#include "tensor/kernels/tiles.h"
#include "tensor/memory_counter.h"

using namespace attnscale;
using namespace attnscale::kernel_checks;

namespace {

/// What goes in; all but the first three may be undefined.
struct Parts {
  Tensor query, key, value, log_decay, beta;
  std::vector<Tensor> list() const { return {query, key, value, log_decay, beta}; }
};

Parts twins_of(const Parts& x) {
  return {twin_of(x.query), twin_of(x.key), twin_of(x.value), twin_of(x.log_decay), twin_of(x.beta)};
}

/// S_t = a S_{t-1} + k (b (v - S^T k) or v)^T, and the sum of keys likewise.
Tensor plain_recurrence(const Parts& x, const Tensor& query_features, const Tensor& key_features,
                        const RecurrenceCall& call) {
  const int64_t shared = query_features.size(1) / key_features.size(1);
  auto state =
      at::zeros({key_features.size(0), key_features.size(1), key_features.size(3), x.value.size(3)}, at::kDouble);
  auto norm = at::zeros({key_features.size(0), key_features.size(1), key_features.size(3), 1}, at::kDouble);
  std::vector<Tensor> outputs;
  for (int64_t t = 0; t < x.query.size(2); ++t) {
    const auto k = key_features.select(2, t).unsqueeze(-1);  // [B, G, F, 1]
    auto v = x.value.select(2, t).unsqueeze(2);              // [B, G, 1, E]
    if (x.log_decay.defined()) {
      auto decay = x.log_decay.select(2, t).exp().unsqueeze(-1);  // [B, G, 1] or [B, G, F, 1]
      if (decay.dim() == 3) decay = decay.unsqueeze(-1);
      state = state * decay;
      norm = norm * decay;
    }
    if (x.beta.defined()) v = x.beta.select(2, t).unsqueeze(-1).unsqueeze(-1) * (v - at::matmul(k.mT(), state));
    state = state + at::matmul(k, v);
    norm = norm + k;
    const auto q = query_features.select(2, t).unsqueeze(2);  // [B, H, 1, F]
    auto y = at::matmul(q, state.repeat_interleave(shared, 1));
    if (call.epsilon) y = y / (at::matmul(q, norm.repeat_interleave(shared, 1)) + *call.epsilon).clamp_min(call.floor);
    outputs.push_back(y.squeeze(2));
  }
  return at::stack(outputs, 2);
}

Tensor mapped(const Tensor& x, const RecurrenceCall& call) {
  if (call.map == FeatureMap::elu_plus_one) return at::elu(x) + 1;
  if (call.map == FeatureMap::relu) return at::relu(x) + call.offset;
  if (!call.projection.defined()) return x;
  const auto scaled = x * std::pow(static_cast<double>(x.size(3)), -0.25);
  return (at::matmul(scaled, call.projection.to(at::kDouble).t()) - scaled.square().sum(-1, true) / 2).exp();
}

struct Shape {
  int64_t positions, heads, groups, width, value_width, chunk_length;
};

const std::vector<Shape> shapes = {{8, 1, 1, 1, 1, 64},    {9, 2, 1, 3, 5, 1},    {64, 2, 2, 8, 4, 64},
                                   {65, 2, 1, 16, 33, 64}, {130, 4, 2, 70, 6, 7}, {200, 1, 1, 5, 66, 48}};

/// Rows as projections leave them, positions outside the heads.
Tensor rows(int64_t positions, int64_t heads, int64_t width, double scale = 1) {
  return trained({2, positions, heads, width}, scale);
}
Tensor by_head(const Tensor& x) { return x.defined() ? x.transpose(1, 2) : x; }

void check(const Parts& x, const RecurrenceCall& call, double least = smallest) {
  const auto y = twins_of(x);
  const auto heads = [](const Parts& of) {
    return Parts{by_head(of.query), by_head(of.key), by_head(of.value), by_head(of.log_decay), by_head(of.beta)};
  };
  const auto ours = heads(x), theirs = heads(y);
  const auto output = recurrence_kernel(ours.query, ours.key, ours.value, ours.log_decay, ours.beta, call);
  CHECK(output.scalar_type() == call.output);
  std::vector<std::pair<Tensor, Tensor>> inputs;
  for (size_t i = 0; i < 5; ++i) inputs.emplace_back(x.list()[i], y.list()[i]);
  check_same(output, plain_recurrence(theirs, mapped(theirs.query, call), mapped(theirs.key, call), call), inputs,
             call.dtype, least);
}

}  // namespace

TEST_CASE("recurrence kernel: sums over the past, decayed or not, equal the definition") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  NEEDS_KERNELS(dtype);
  at::manual_seed(1);
  for (const auto& [T, H, G, D, E, c] : shapes)
    for (const int decay : {0, 1, 2}) {
      CAPTURE(dtype, T, H, G, D, E, c, decay);
      const double scale = 1 / std::sqrt(static_cast<double>(D));
      Parts x{rows(T, H, D, scale), rows(T, G, D), rows(T, G, E), {}, {}};
      // Some decays are strong: e^-8 a step.
      if (decay == 1) x.log_decay = (-at::rand({2, T, G}).pow(4) * 8).set_requires_grad(true);
      if (decay == 2) x.log_decay = (-at::rand({2, T, G, D}).pow(4) * 8).set_requires_grad(true);
      check(x, {.dtype = dtype, .output = at::kFloat, .chunk_length = c});
    }
}

TEST_CASE("recurrence kernel: the delta rule equals the definition") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  NEEDS_KERNELS(dtype);
  at::manual_seed(2);
  for (const auto& [T, H, G, D, E, c] : shapes)
    for (const bool decays : {false, true}) {
      CAPTURE(dtype, T, G, D, E, c, decays);
      const double unit = 1 / std::sqrt(static_cast<double>(D));
      Parts x{rows(T, G, D, unit), rows(T, G, D, unit), rows(T, G, E), {}, at::rand({2, T, G}).set_requires_grad(true)};
      if (decays) x.log_decay = (-at::rand({2, T, G}).pow(4) * 8).set_requires_grad(true);
      check(x, {.dtype = dtype, .output = at::kFloat, .chunk_length = c});
    }
}

TEST_CASE("recurrence kernel: features and what the sums are divided by equal the definition") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  NEEDS_KERNELS(dtype);
  at::manual_seed(3);
  for (const auto& [T, H, G, D, E, c] : shapes)
    for (const int kind : {0, 1, 2, 3}) {
      CAPTURE(dtype, T, H, G, D, E, c, kind);
      RecurrenceCall call{.dtype = dtype, .output = dtype, .chunk_length = c, .epsilon = 1e-6};
      if (kind == 0) call.map = FeatureMap::elu_plus_one;
      if (kind == 1) call.map = FeatureMap::relu, call.offset = 0.25;
      if (kind == 2) call.projection = at::randn({D + 3, D}), call.epsilon = 1e-30;
      Parts x{rows(T, H, D), rows(T, G, D), rows(T, G, E), {}, {}};
      if (kind == 3) {
        // Positive features come in, with decays that learn; small ones meet the floor.
        call.epsilon = 0, call.floor = 1;
        x.query = at::rand({2, T, H, D}).mul_(4.0 / static_cast<double>(D)).set_requires_grad(true);
        x.key = at::rand({2, T, G, D}).set_requires_grad(true);
        x.log_decay = (-at::rand({2, T, G})).set_requires_grad(true);
      }
      check(x, call, D == 1 && kind < 3 ? 1 : smallest);  // a query's one feature divides itself away
    }
}

TEST_CASE("recurrence kernel: narrow inputs, and keys that all heads share") {
  NEEDS_KERNELS(at::kBFloat16);
  at::manual_seed(4);
  const auto narrow = [](const Tensor& x) { return x.detach().to(at::kBFloat16).set_requires_grad(true); };
  check({narrow(rows(70, 2, 6)), narrow(rows(70, 1, 6)), narrow(rows(70, 1, 4)), {}, {}},
        {.dtype = at::kBFloat16, .output = at::kBFloat16, .map = FeatureMap::elu_plus_one, .epsilon = 1e-6});
  for (const int64_t width : {4, 66})  // chunks that are whole, whose values are factors as they lie
    check({narrow(rows(128, 2, 6)), narrow(rows(128, 1, 6)), narrow(rows(128, 1, width)), {}, {}},
          {.dtype = at::kBFloat16, .output = at::kBFloat16, .map = FeatureMap::elu_plus_one, .epsilon = 1e-6});
  const auto query = trained({2, 3, 40, 8}), key = trained({2, 1, 40, 8}), value = trained({2, 3, 40, 5});
  const auto query2 = twin_of(query), key2 = twin_of(key), value2 = twin_of(value);
  const RecurrenceCall call;
  check_same(recurrence_kernel(query, key.expand({-1, 3, -1, -1}), value, {}, {}, call),
             plain_recurrence({query2, key2, value2, {}, {}}, query2, key2.expand({-1, 3, -1, -1}), call),
             {{query, query2}, {key, key2}, {value, value2}}, at::kFloat);
}

TEST_CASE("recurrence kernel: a Performer's features stay exact where exponents reach from -800 to 800") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(5);
  // Two keys far apart in size: without a stabiliser the larger is inf and the smaller 0. Equal keys have equal
  // weights.
  const auto key = at::cat({at::full({1, 1, 20, 1}, -40.0), at::full({1, 1, 20, 1}, 40.0)}, 2);
  const auto value = at::arange(40, at::kFloat).view({1, 1, 40, 1});
  const auto output = recurrence_kernel(at::ones({1, 1, 40, 1}), key, value, {}, {},
                                        {.projection = at::full({1, 1}, 40.0), .epsilon = 1e-30});
  for (int64_t t = 0; t < 40; ++t) {
    CAPTURE(t);
    const double first = t < 20 ? 0 : 20;  // the mean over the keys of the newest size
    CHECK(std::abs(output[0][0][t][0].item<double>() - (first + static_cast<double>(t)) / 2) < 1e-4);
  }
}

TEST_CASE("recurrence kernel: numbers that are not finite stay visible from there on") {
  NEEDS_KERNELS(at::kFloat);
  for (const auto map : {FeatureMap::none, FeatureMap::elu_plus_one, FeatureMap::relu}) {
    auto key = at::rand({1, 1, 100, 4});
    key[0][0][70] = NAN;
    const auto output = recurrence_kernel(at::rand({1, 1, 100, 4}), key, at::rand({1, 1, 100, 4}), {}, {},
                                          {.map = map, .epsilon = 1e-6});
    CHECK(output.narrow(2, 0, 70).isfinite().all().item<bool>());
    CHECK(output.narrow(2, 70, 30).isnan().all().item<bool>());
  }
}

TEST_CASE("recurrence kernel: memory grows with the length, and bits are the same from call to call") {
  NEEDS_KERNELS(at::kFloat);
  const auto x = trained({1, 2, 4096, 8});
  const auto gradient = [&](int64_t length) {
    const auto part = x.detach().narrow(2, 0, length).clone().set_requires_grad(true);
    const MemoryCounter memory;
    recurrence_kernel(part, part, part, {}, {}, {}).square().sum().backward();
    return std::pair(part.grad(), memory.peak());
  };
  const auto longer = gradient(4096), again = gradient(4096), half = gradient(2048);
  CHECK(at::equal(longer.first, again.first));
  CHECK(longer.second < 2 * half.second + 4096);
}

TEST_CASE("recurrence kernel: what it tells the counter of FLOPs, twice as much backward") {
  NEEDS_KERNELS(at::kFloat);
  const auto x = trained({1, 1, 64, 4});
  const FlopCounter counter;
  const auto output = recurrence_kernel(x, x, x, {}, {}, {.flops = 100});
  CHECK(counter.total() == 100);
  output.sum().backward();
  CHECK(counter.total() == 300);
}

TEST_CASE("recurrence kernel: it takes whole tensors of float32 and bfloat16, and leaves the rest to operators") {
  NEEDS_KERNELS(at::kFloat);
  const auto x = at::randn({1, 1, 64, 4});
  CHECK(recurrence_dtype(at::kFloat, {x, x, Tensor()}) == at::kFloat);
  CHECK_FALSE(recurrence_dtype(at::kDouble, {x.to(at::kDouble)}));
  CHECK_FALSE(recurrence_dtype(at::kFloat, {x, x.to(at::kHalf)}));
  CHECK_FALSE(recurrence_dtype(at::kFloat, {x.narrow(2, 0, 3)}));
  const Kernels off(false);
  CHECK_FALSE(recurrence_dtype(at::kFloat, {x}));
}

TEST_CASE("tiles: their products are counted, and so is the memory that they work in") {
  NEEDS_KERNELS(at::kFloat);
  const auto x = at::randn({1, 1, 64, 8});
  release_scratch();
  const int64_t before = scratch_bytes();
  const double flops = tile_flops();
  recurrence_kernel(x, x, x, {}, {}, {});
  // One chunk: pairs, values, and the state that it finds; nobody finds the one that it leaves.
  CHECK(tile_flops() - flops == 2 * (64 * 64 * 8 + 64 * 64 * 8 + 64 * 8 * 8));
  CHECK(scratch_bytes() > before);
  release_scratch();
  CHECK(scratch_bytes() == before);
}

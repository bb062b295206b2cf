// Loops that this processor does not choose, but can run, against those that it does.

#include <array>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "tensor/kernel_checks.h"
#include "tensor/kernels/activation_rows.h"
#include "tensor/kernels/norm_rows.h"
#include "tensor/kernels/row_functions.h"
#include "tensor/kernels/softmax_tile.h"
#include "tensor/kernels/vector_functions.h"

#if defined(__x86_64__)

namespace attnscale {
extern const VectorFunctions vector_functions_AVX2, vector_functions_AVX512;
extern const RowFunctions row_functions_AVX2, row_functions_AVX512;
}  // namespace attnscale

using namespace attnscale;
using torch::Tensor;

namespace {

constexpr int64_t num_rows = 5, num_columns = 37, row_length = 64;

struct InstructionSet {
  const VectorFunctions& vectors;
  const RowFunctions& for_rows;
};

std::vector<InstructionSet> other_sets() {
  std::vector<InstructionSet> result;
  if (__builtin_cpu_supports("avx2") != 0) result.push_back({vector_functions_AVX2, row_functions_AVX2});
  if (__builtin_cpu_supports("avx512bw") != 0) result.push_back({vector_functions_AVX512, row_functions_AVX512});
  return result;
}

/// Numbers that were rounded, with room that must not change.
struct RoundedNumbers {
  std::vector<Bits16> numbers = std::vector<Bits16>(2 * row_length * (num_rows + 1), 7);
  Bits16* data() { return numbers.data(); }
  Tensor as_floats() { return at::from_blob(numbers.data(), {std::ssize(numbers)}, at::kBFloat16).to(at::kFloat); }
};

/// To a unit of bfloat16's last place.
bool nearly_same(RoundedNumbers& a, RoundedNumbers& b, double absolute = 1e-6) {
  return at::allclose(a.as_floats(), b.as_floats(), 0.008, absolute);
}
bool nearly_same(const Tensor& a, const Tensor& b, double absolute = 1e-6) {
  return at::allclose(a, b, 1e-5, absolute);
}

Tensor some_numbers(int64_t count) { return at::randn({count}) * 2; }
float* floats(const Tensor& x) { return x.mutable_data_ptr<float>(); }

}  // namespace

TEST_CASE("instruction sets: rows are rounded, activated and normalised as by the loops that are chosen") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(11);
  const auto in = some_numbers(num_rows * num_columns), factor = some_numbers(num_rows * num_columns),
             gain = some_numbers(num_columns), shift = some_numbers(num_columns),
             added = some_numbers(num_rows * num_columns);
  for (const auto& other : other_sets()) {
    CAPTURE(std::string(other.vectors.instruction_set));
    RoundedNumbers a, b;
    vector_functions()->round_rows(floats(in), num_columns, a.data(), row_length, num_rows, num_columns);
    other.vectors.round_rows(floats(in), num_columns, b.data(), row_length, num_rows, num_columns);
    CHECK(nearly_same(a, b));
    for (const bool gated : {false, true}) {
      const float* by = gated ? floats(factor) : nullptr;
      vector_functions()->activate_rows(Activation::silu, floats(in), by, a.data(), row_length, num_rows, num_columns);
      other.vectors.activate_rows(Activation::silu, floats(in), by, b.data(), row_length, num_rows, num_columns);
      CHECK(nearly_same(a, b));
    }
    Tensor sums[2] = {at::empty({num_rows * num_columns}), at::empty({num_rows * num_columns})},
           moments[2] = {at::empty({2 * num_rows}), at::empty({2 * num_rows})};
    const auto norm = [&](const RowFunctions& loops, size_t i, RoundedNumbers& out) {
      loops.norm({.count = num_rows,
                  .width = num_columns,
                  .x = floats(in),
                  .sum = floats(sums[i]),
                  .added = floats(added),
                  .added16 = nullptr,
                  .weight = floats(gain),
                  .bias = floats(shift),
                  .epsilon = 1e-5F,
                  .centred = true,
                  .moments = floats(moments[i]),
                  .out = nullptr,
                  .out16 = out.data()});
    };
    norm(*row_functions(), 0, a);
    norm(other.for_rows, 1, b);
    CHECK(nearly_same(a, b));
    CHECK(at::equal(sums[0], sums[1]));
    CHECK(nearly_same(moments[0], moments[1]));
  }
}

TEST_CASE("instruction sets: heads are turned and numbers dropped as by the loops that are chosen") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(13);
  constexpr int64_t half = 17, count = 64 * 2 + 37;
  const auto in = some_numbers(num_rows * row_length), angles = some_numbers(2 * half);
  const auto narrow = in.to(at::kBFloat16);
  const auto* rounded = reinterpret_cast<const Bits16*>(narrow.const_data_ptr<at::BFloat16>());
  const Drops drops{.key = 0x123456789abcdef0U, .threshold = 0xb0000000U, .factor = 1.25F};
  for (const auto& other : other_sets()) {
    CAPTURE(std::string(other.vectors.instruction_set));
    RoundedNumbers a, b;
    Tensor out[2] = {at::zeros_like(in), at::zeros_like(in)};
    const auto turn = [&](const RowFunctions& loops, const Tensor& to, RoundedNumbers& narrow_to) {
      loops.turn(floats(in), row_length, num_rows, floats(angles), floats(angles) + half, half, floats(to), 2 * half);
      loops.turn16(rounded, row_length, num_rows, floats(angles), floats(angles) + half, half, narrow_to.data(),
                   2 * half);
    };
    turn(*row_functions(), out[0], a);
    turn(other.for_rows, out[1], b);
    CHECK(nearly_same(out[0], out[1]));
    CHECK(nearly_same(a, b));
    const auto drop = [&](const RowFunctions& loops, const Tensor& to, RoundedNumbers& narrow_to) {
      loops.drop(drops, 128, floats(in), floats(to), count);
      loops.drop16(drops, 128, rounded, narrow_to.data(), count);
    };
    drop(*row_functions(), out[0], a);
    drop(other.for_rows, out[1], b);
    CHECK(at::equal(out[0], out[1]));
    CHECK(nearly_same(a, b));
  }
}

TEST_CASE("instruction sets: gradients of activations and softmaxes are those of the loops that are chosen") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(12);
  RoundedNumbers in, factor;
  const auto wide = some_numbers(num_rows * num_columns), gradient = some_numbers(num_rows * num_columns);
  vector_functions()->round(floats(wide), in.data(), num_rows * num_columns);
  vector_functions()->round(floats(gradient), factor.data(), num_rows * num_columns);
  const bool gated = GENERATE(false, true);
  CAPTURE(gated);
  constexpr double of_activation = 6e-5;  // of GELU by pieces, which AVX2 has not
  for (const auto& other : other_sets()) {
    CAPTURE(std::string(other.vectors.instruction_set));
    std::array<std::array<RoundedNumbers, 5>, 2> put;
    Tensor sums[2] = {at::zeros({2 * num_columns}), at::zeros({2 * num_columns})};
    size_t i = 0;
    for (const auto* loops : {vector_functions(), &other.vectors}) {
      loops->activate_rows_backward({.kind = Activation::gelu,
                                     .rows = num_rows,
                                     .columns = num_columns,
                                     .in = in.data(),
                                     .factor = gated ? factor.data() : nullptr,
                                     .gradient = floats(gradient),
                                     .out = {put[i][0].data(), put[i][1].data()},
                                     .stride = row_length,
                                     .panels = {put[i][2].data(), put[i][3].data()},
                                     .value_panel = put[i][4].data(),
                                     .sums = {floats(sums[i]), floats(sums[i]) + num_columns}});
      ++i;
    }
    for (size_t which = 0; which < 5; ++which) {
      CAPTURE(which);
      CHECK(nearly_same(put[0][which], put[1][which], of_activation));
    }
    CHECK(nearly_same(sums[0], sums[1], num_rows * of_activation));
    std::array<RoundedNumbers, 2> weights;
    std::array<float, num_rows> highest[2], total[2], shrink{};
    const std::array<int64_t, num_rows> low = {0, 3, 16, 5, 0}, high = {37, 4, 17, 5, 33};
    for (i = 0; i < 2; ++i) {
      highest[i].fill(-INFINITY);
      total[i].fill(0);
      const auto logits = at::zeros({num_rows, row_length});
      logits.narrow(1, 0, num_columns).copy_(wide.view({num_rows, num_columns}));
      (i == 0 ? vector_functions() : &other.vectors)
          ->softmax_tile({num_rows, row_length, num_columns, low.data(), high.data()}, floats(logits),
                         weights[i].data(), 0.5F, highest[i].data(), total[i].data(), shrink.data());
    }
    // Behind the num_columns that are put out, whole vectors may be zero.
    const auto inside = [](RoundedNumbers& all) {
      return all.as_floats().view({-1, row_length}).narrow(0, 0, num_rows).narrow(1, 0, num_columns);
    };
    CHECK(at::allclose(inside(weights[0]), inside(weights[1]), 0.008, 1e-6));
    CHECK(highest[0] == highest[1]);
  }
}

#endif

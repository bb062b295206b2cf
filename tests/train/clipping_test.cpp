#include "train/clipping.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "tensor/kernels/kernels.h"

using namespace attnscale;
using Catch::Matchers::WithinRel;

namespace {

/// Who computes: LibTorch's operators in float64 and float32, and the kernels, which take float32 alone.
struct Arithmetic {
  at::ScalarType dtype;
  bool kernels;
  /// A few roundings of sums, roots and products.
  double rounding() const { return dtype == at::kDouble ? 1e-14 : 1e-6; }
};

class InArithmetic {
 public:
  explicit InArithmetic(const Arithmetic& chosen) { set_kernels(chosen.kernels); }

 private:
  KernelsAsBefore before_;
};

#define IN_EVERY_ARITHMETIC()                                                                                \
  const auto chosen =                                                                                        \
      GENERATE(Arithmetic{at::kDouble, false}, Arithmetic{at::kFloat, false}, Arithmetic{at::kFloat, true}); \
  CAPTURE(chosen.dtype, chosen.kernels);                                                                     \
  const InArithmetic in_arithmetic(chosen)

Slot slot(const std::string& name, at::IntArrayRef shape, double gradient, at::ScalarType dtype) {
  Slot result{.name = name, .parameter = at::zeros(shape, dtype).requires_grad_()};
  result.parameter.mutable_grad() = at::full(shape, gradient, dtype);
  return result;
}

double norm_of_slot(const Slot& slot) { return slot.parameter.grad().to(at::kDouble).norm().item<double>(); }

/// Norms: 4 and 3 in block 0, hence 5; 8 in block 10; 1 in the embedding; 9.49 = sqrt(90) in all; each times `scale`.
std::vector<Slot> model_slots(const Arithmetic& chosen, double scale = 1) {
  return {slot("blocks.0.a.weight", {2, 2}, 2 * scale, chosen.dtype), slot("blocks.0.b", {9}, -scale, chosen.dtype),
          slot("blocks.10.a", {4, 4}, 2 * scale, chosen.dtype), slot("embedding.token", {1, 1}, scale, chosen.dtype)};
}

void clip(const std::vector<Slot>& slots, const TrainOptions& options) {
  clip_gradients(slots, gradient_norm(slots).item<double>(), options);
}

}  // namespace

TEST_CASE("clipping: the gradient norm is that of one long vector, of those that have a gradient") {
  IN_EVERY_ARITHMETIC();
  auto slots = model_slots(chosen);
  CHECK_THAT(gradient_norm(slots).item<double>(), WithinRel(std::sqrt(90.0), chosen.rounding()));
  slots.push_back({.name = "unused", .parameter = at::zeros({3}).requires_grad_()});
  CHECK_THAT(gradient_norm(slots).item<double>(), WithinRel(std::sqrt(90.0), chosen.rounding()));
  slots[0].parameter.mutable_grad()[1][1] = NAN;
  CHECK(std::isnan(gradient_norm(slots).item<double>()));
  CHECK(gradient_norm({}).item<double>() == 0);
}

TEST_CASE("clipping: by the global norm all shrink alike, and only if the norm is above the limit") {
  IN_EVERY_ARITHMETIC();
  const auto slots = model_slots(chosen);
  clip(slots, {.clip_norm = 10});
  CHECK(norm_of_slot(slots[0]) == 4);
  clip(slots, {.clip_norm = 3});
  CHECK_THAT(gradient_norm(slots).item<double>(), WithinRel(3.0, chosen.rounding()));
  CHECK_THAT(norm_of_slot(slots[2]) / norm_of_slot(slots[3]), WithinRel(8.0, chosen.rounding()));
}

TEST_CASE("clipping: by layer each block shrinks to the limit by itself, small ones not") {
  IN_EVERY_ARITHMETIC();
  const auto slots = model_slots(chosen);
  clip(slots, {.clip = "per_layer_norm", .clip_norm = 2});
  CHECK_THAT(norm_of_slot(slots[0]), WithinRel(4 * 2 / 5.0, chosen.rounding()));
  CHECK_THAT(norm_of_slot(slots[1]), WithinRel(3 * 2 / 5.0, chosen.rounding()));
  CHECK_THAT(norm_of_slot(slots[2]), WithinRel(2.0, chosen.rounding()));
  CHECK(norm_of_slot(slots[3]) == 1);
}

TEST_CASE("clipping: by value each number is limited on both sides") {
  IN_EVERY_ARITHMETIC();
  const auto slots = model_slots(chosen);
  clip(slots, {.clip = "value", .clip_value = 0.75});
  CHECK(slots[0].parameter.grad()[0][0].item<double>() == 0.75);
  CHECK(slots[1].parameter.grad()[0].item<double>() == -0.75);
  clip(slots, {.clip = "value", .clip_value = 0.8});
  CHECK(slots[1].parameter.grad()[0].item<double>() == -0.75);
}

TEST_CASE("clipping: a limit of zero leaves gradients as they are, whatever the kind") {
  IN_EVERY_ARITHMETIC();
  const auto slots = model_slots(chosen);
  for (const auto* kind : {"global_norm", "per_layer_norm", "value"})
    clip(slots, {.clip = kind, .clip_norm = 0, .clip_value = 0});
  CHECK(norm_of_slot(slots[0]) == 4);
  CHECK(norm_of_slot(slots[2]) == 8);
}

TEST_CASE("clipping: norms whose squares float32 does not hold are right, large and small") {
  IN_EVERY_ARITHMETIC();
  for (const double scale : {1e25, 1e-25, 1e-40}) {
    CAPTURE(scale);
    const double rounding = scale < 1e-38 ? 1e-4 : chosen.rounding();  // float32's numbers of few digits
    const auto slots = model_slots(chosen, scale);
    CHECK_THAT(gradient_norm(slots).item<double>(), WithinRel(std::sqrt(90.0) * scale, rounding));
    clip(slots, {.clip_norm = 3 * scale});
    CHECK_THAT(gradient_norm(slots).item<double>(), WithinRel(3 * scale, rounding));
    const auto by_layer = model_slots(chosen, scale);
    clip(by_layer, {.clip = "per_layer_norm", .clip_norm = 2 * scale});
    CHECK_THAT(norm_of_slot(by_layer[0]), WithinRel(4 * 2 / 5.0 * scale, rounding));
    CHECK_THAT(norm_of_slot(by_layer[2]), WithinRel(2 * scale, rounding));
    CHECK_THAT(norm_of_slot(by_layer[3]), WithinRel(scale, rounding));
  }
  // What float32 cannot say at all is infinite, and so the step diverged.
  if (chosen.dtype == at::kFloat) CHECK(std::isinf(gradient_norm({slot("a", {4}, 3e38, at::kFloat)}).item<double>()));
}

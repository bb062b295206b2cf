#include "train/clipping.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinRel;

namespace {

// Roots, sums and products in float64, a clip_rounding each.
constexpr double clip_rounding = 1e-14;

Slot slot(const std::string& name, at::IntArrayRef shape, double gradient) {
  Slot result{.name = name, .parameter = at::zeros(shape, at::kDouble).requires_grad_()};
  result.parameter.mutable_grad() = at::full(shape, gradient, at::kDouble);
  return result;
}

double norm_of_slot(const Slot& slot) { return slot.parameter.grad().norm().item<double>(); }

/// Norms: 4 and 3 in block 0, hence 5; 8 in block 10; 1 in the embedding; 9.49 = sqrt(90) in all.
std::vector<Slot> model_slots() {
  return {slot("blocks.0.a.weight", {2, 2}, 2), slot("blocks.0.b", {9}, -1), slot("blocks.10.a", {4, 4}, 2),
          slot("embedding.token", {1, 1}, 1)};
}

void clip(const std::vector<Slot>& slots, const TrainOptions& options) {
  clip_gradients(slots, gradient_norm(slots).item<double>(), options);
}

}  // namespace

TEST_CASE("clipping: the gradient norm is that of one long vector, of those that have a gradient") {
  auto slots = model_slots();
  CHECK_THAT(gradient_norm(slots).item<double>(), WithinRel(std::sqrt(90.0), clip_rounding));
  slots.push_back({.name = "unused", .parameter = at::zeros({3}).requires_grad_()});
  CHECK_THAT(gradient_norm(slots).item<double>(), WithinRel(std::sqrt(90.0), clip_rounding));
  slots[0].parameter.mutable_grad()[1][1] = NAN;
  CHECK(std::isnan(gradient_norm(slots).item<double>()));
  CHECK(gradient_norm({}).item<double>() == 0);
}

TEST_CASE("clipping: by the global norm all shrink alike, and only if the norm is above the limit") {
  const auto slots = model_slots();
  clip(slots, {.clip_norm = 10});
  CHECK(norm_of_slot(slots[0]) == 4);
  clip(slots, {.clip_norm = 3});
  CHECK_THAT(gradient_norm(slots).item<double>(), WithinRel(3.0, clip_rounding));
  CHECK_THAT(norm_of_slot(slots[2]) / norm_of_slot(slots[3]), WithinRel(8.0, clip_rounding));
}

TEST_CASE("clipping: by layer each block shrinks to the limit by itself, small ones not") {
  const auto slots = model_slots();
  clip(slots, {.clip = "per_layer_norm", .clip_norm = 2});
  CHECK_THAT(norm_of_slot(slots[0]), WithinRel(4 * 2 / 5.0, clip_rounding));
  CHECK_THAT(norm_of_slot(slots[1]), WithinRel(3 * 2 / 5.0, clip_rounding));
  CHECK_THAT(norm_of_slot(slots[2]), WithinRel(2.0, clip_rounding));
  CHECK(norm_of_slot(slots[3]) == 1);
}

TEST_CASE("clipping: by value each number is limited on both sides") {
  const auto slots = model_slots();
  clip(slots, {.clip = "value", .clip_value = 0.75});
  CHECK(slots[0].parameter.grad()[0][0].item<double>() == 0.75);
  CHECK(slots[1].parameter.grad()[0].item<double>() == -0.75);
  clip(slots, {.clip = "value", .clip_value = 0.8});
  CHECK(slots[1].parameter.grad()[0].item<double>() == -0.75);
}

TEST_CASE("clipping: a limit of zero leaves gradients as they are, whatever the kind") {
  const auto slots = model_slots();
  for (const auto* kind : {"global_norm", "per_layer_norm", "value"})
    clip(slots, {.clip = kind, .clip_norm = 0, .clip_value = 0});
  CHECK(norm_of_slot(slots[0]) == 4);
  CHECK(norm_of_slot(slots[2]) == 8);
}

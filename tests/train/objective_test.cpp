#include "train/objective.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

using namespace attnscale;
using Catch::Matchers::WithinRel;

namespace {

constexpr int num_targets = 7, vocabulary = 5;
constexpr double objective_rounding = 1e-13;  // sums of some tens of float64 terms

struct SomeLogits {
  Tensor logits = at::randn({num_targets, vocabulary}, at::kDouble).mul(3).requires_grad_();
  Tensor targets = torch::tensor(std::vector<int64_t>{1, 4, not_asked, 0, 2, not_asked, 3});
};

/// The equation of `training_objective`, target by target. @return what is minimised, and the cross entropy
std::pair<double, double> by_loops(const SomeLogits& c, double smoothing, double z_weight) {
  double minimised = 0, loss = 0, count = 0;
  for (int i = 0; i < num_targets; ++i) {
    const auto target = c.targets[i].item<int64_t>();
    if (target == not_asked) continue;
    double normaliser = 0;
    for (int v = 0; v < vocabulary; ++v) normaliser += std::exp(c.logits[i][v].item<double>());
    const auto surprise = [&](int64_t v) { return std::log(normaliser) - c.logits[i][v].item<double>(); };
    double spread = 0;
    for (int v = 0; v < vocabulary; ++v) spread += surprise(v) / vocabulary;
    minimised += (1 - smoothing) * surprise(target) + smoothing * spread;
    minimised += z_weight * std::log(normaliser) * std::log(normaliser);
    loss += surprise(target);
    count += 1;
  }
  return {minimised / count, loss / count};
}

}  // namespace

TEST_CASE("objective: smoothing and the normaliser's penalty are those of the equation; the loss is without") {
  at::manual_seed(1);
  const SomeLogits c;
  for (const double smoothing : {0.0, 0.2})
    for (const double z : {0.0, 0.3}) {
      INFO(smoothing << " " << z);
      const auto [minimised, loss] = by_loops(c, smoothing, z);
      const auto ours = training_objective(c.logits, c.targets, {.label_smoothing = smoothing, .z_loss = z});
      CHECK_THAT(ours.minimised.item<double>(), WithinRel(minimised, objective_rounding));
      CHECK_THAT(ours.loss.item<double>(), WithinRel(loss, objective_rounding));
      CHECK_FALSE(ours.loss.requires_grad());
    }
}

TEST_CASE("objective: the gradient is that of finite differences, and none reaches a target that does not count") {
  at::manual_seed(2);
  const SomeLogits c;
  const TrainOptions options{.label_smoothing = 0.1, .z_loss = 0.05};
  training_objective(c.logits, c.targets, options).minimised.backward();
  const auto gradient = c.logits.grad().clone();
  CHECK(gradient[2].abs().max().item<double>() == 0);
  const torch::NoGradGuard no_gradients;
  constexpr double h = 1e-5;
  for (const int i : {0, 3, 6})
    for (int v = 0; v < vocabulary; ++v) {
      const auto at_distance = [&](double distance) {
        auto moved = c.logits.detach().clone();
        moved[i][v] += distance;
        return training_objective(moved, c.targets, options).minimised.item<double>();
      };
      // Central differences: h^2 of the third derivative, 1e-10, and 1e-16 / h of objective_rounding.
      CHECK(std::abs((at_distance(h) - at_distance(-h)) / (2 * h) - gradient[i][v].item<double>()) < 1e-8);
    }
}

TEST_CASE("objective: parts divided by the count of all add up to the whole, one without a target too") {
  at::manual_seed(3);
  const SomeLogits c;
  const TrainOptions options{.label_smoothing = 0.1, .z_loss = 0.05};
  const auto whole = training_objective(c.logits, c.targets, options);
  const auto count = torch::tensor(int64_t{5});
  double minimised = 0, loss = 0;
  for (const auto& [first, rows] : {std::pair{0, 2}, {2, 1}, {3, 4}}) {
    const auto part =
        training_objective(c.logits.narrow(0, first, rows), c.targets.narrow(0, first, rows), options, count);
    minimised += part.minimised.item<double>();
    loss += part.loss.item<double>();
  }
  CHECK_THAT(minimised, WithinRel(whole.minimised.item<double>(), objective_rounding));
  CHECK_THAT(loss, WithinRel(whole.loss.item<double>(), objective_rounding));
}

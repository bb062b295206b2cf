#include "model/initialisation.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>

#include "model/small_model.h"
#include "model/transformer.h"

using namespace attnscale;

namespace {

TensorMap parameters_of(const Transformer& model) {
  TensorMap map;
  for (const auto& item : model.named_parameters()) map[item.key()] = item.value().detach();
  return map;
}

}  // namespace

TEST_CASE("initialisation: weights are normal with GPT-2's widths, biases zero, norms one") {
  const auto options = resolved({.depth = 8, .model_dim = 64, .num_heads = 4, .tie_embeddings = false}, 300);
  for (const auto& [name, value] : parameters_of(Transformer(options, {}, 32, 1))) {
    CAPTURE(name);
    if (name.ends_with("bias")) CHECK(at::equal(value, at::zeros_like(value)));
    else if (value.dim() == 1) CHECK(at::equal(value, at::ones_like(value)));
    else {
      const bool residual = name.ends_with("mixer.output.weight") || name.ends_with("down.weight");
      const double expected = residual ? 0.02 / 4 : 0.02;  // sqrt(2 x 8) = 4
      const double n = static_cast<double>(value.numel());
      // Standard errors of a normal sample: of the deviation sigma / sqrt(2 n), of the mean sigma / sqrt(n); about 40
      // matrices, so 5 of them (one failure in 10^5 seeds, and the seed is fixed).
      CHECK(std::abs(value.std().item<double>() - expected) < 5 * expected / std::sqrt(2 * n));
      CHECK(std::abs(value.mean().item<double>()) < 5 * expected / std::sqrt(n));
      // A normal distribution's fourth moment is 3 sigma^4 with standard error sqrt(96 / n) sigma^4.
      const double fourth = value.to(torch::kFloat64).pow(4).mean().item<double>() / std::pow(expected, 4);
      CHECK(std::abs(fourth - 3) < 5 * std::sqrt(96 / n));
    }
  }
}

TEST_CASE("initialisation: the seed alone decides") {
  const WithGatedSum scratch;
  torch::manual_seed(1);
  const auto first = parameters_of(Transformer(small_options(), gated_sum(), 8, 3));
  torch::manual_seed(2);
  const auto again = parameters_of(Transformer(small_options(), gated_sum(), 8, 3));
  const auto other = parameters_of(Transformer(small_options(), gated_sum(), 8, 4));
  for (const auto& [name, value] : first) {
    CAPTURE(name);
    CHECK(at::equal(value, again.at(name)));
    const bool drawn = value.dim() > 1;
    CHECK(at::equal(value, other.at(name)) == !drawn);
  }
}

TEST_CASE("initialisation: building a model leaves the default generator as it was") {
  const WithGatedSum scratch;
  torch::manual_seed(1);
  const auto expected = torch::randn({20});
  torch::manual_seed(1);
  const Transformer model(small_options(), gated_sum(), 8, 3);
  CHECK(at::equal(torch::randn({20}), expected));
}

TEST_CASE("initialisation: another layer or another variant leaves the other draws as they were") {
  const WithGatedSum scratch;
  auto deeper = small_options();
  deeper.depth = 3;
  const auto softmax = parameters_of(Transformer(small_options(), {}, 8, 3));
  const auto gated = parameters_of(Transformer(small_options(), gated_sum(), 8, 3));
  const auto deep = parameters_of(Transformer(deeper, gated_sum(), 8, 3));
  CHECK(gated.size() > softmax.size());
  for (const auto& [name, value] : softmax) {
    CAPTURE(name);
    CHECK(at::equal(value, gated.at(name)));
  }
  for (const auto& [name, value] : gated) {
    CAPTURE(name);
    // Only the depth scaling differs: 1/sqrt(6) for 1/sqrt(4).
    const bool residual = name.ends_with("mixer.output.weight") || name.ends_with("down.weight");
    if (residual) CHECK(at::allclose(value * std::sqrt(4.0 / 6), deep.at(name), 1e-6, 0));
    else CHECK(at::equal(value, deep.at(name)));
  }
}

TEST_CASE("initialisation: no two parameters share a stream") {
  const WithGatedSum scratch;
  const auto all = parameters_of(Transformer(small_options(), gated_sum(), 8, 3));
  std::set<float> first_numbers;
  int64_t drawn = 0;
  for (const auto& [name, value] : all)
    if (value.dim() > 1) {
      ++drawn;
      const bool residual = name.ends_with("mixer.output.weight") || name.ends_with("down.weight");
      const auto first = value.flatten()[0].item<float>();
      first_numbers.insert(residual ? first * 2 : first);
    }
  CHECK(static_cast<int64_t>(first_numbers.size()) == drawn);
}

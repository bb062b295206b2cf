#include "model/initialisation.h"

#include <cmath>
#include <map>

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

namespace {

double deviation(const Tensor& x) { return x.std(/*unbiased=*/false).item<double>(); }

/// Whether a sample's deviation is `expected` within 5 standard errors sigma / sqrt(2 n).
bool is_about(const Tensor& x, double expected) {
  return std::abs(deviation(x) - expected) < 5 * expected / std::sqrt(2.0 * static_cast<double>(x.numel()));
}

TensorMap initialised_by(const std::string& scheme) {
  const auto options = resolved({.depth = 2,
                                 .model_dim = 64,
                                 .num_heads = 4,
                                 .num_kv_heads = 1,
                                 .feed_forward = "swiglu",
                                 .tie_embeddings = false,
                                 .embedding_dim = 24,
                                 .initialisation = scheme,
                                 .embedding_std = 0.5},
                                300);
  return parameters_of(Transformer(options, {}, 32, 1));
}

}  // namespace

TEST_CASE("initialisation: each scheme has its deviations, stacked matrices by themselves") {
  // M = 64, one key-value head of 16, F = 176: query 64 x 64, key and value 16 x 64, gate and up 176 x 64.
  struct Expected {
    double query, value, output, gate, down;
  };
  const double beta = std::pow(16, -0.25);
  const std::map<std::string, Expected> expected = {
      {"gpt2", {0.02, 0.02, 0.01, 0.02, 0.01}},
      {"xavier",
       {std::sqrt(2.0 / 128), std::sqrt(2.0 / 80), std::sqrt(2.0 / 128), std::sqrt(2.0 / 240), std::sqrt(2.0 / 240)}},
      {"kaiming",
       {std::sqrt(2.0 / 64), std::sqrt(2.0 / 64), std::sqrt(2.0 / 64), std::sqrt(2.0 / 64), std::sqrt(2.0 / 176)}},
      {"small",
       {std::sqrt(2.0 / 320), std::sqrt(2.0 / 320), std::sqrt(2.0 / 320), std::sqrt(2.0 / 320), std::sqrt(2.0 / 320)}},
      {"deep_norm",
       {std::sqrt(2.0 / 128), beta * std::sqrt(2.0 / 80), beta * std::sqrt(2.0 / 128), beta * std::sqrt(2.0 / 240),
        beta * std::sqrt(2.0 / 240)}},
  };
  for (const auto& [scheme, e] : expected) {
    CAPTURE(scheme);
    const auto p = initialised_by(scheme);
    const auto& qkv = p.at("blocks.1.mixer.qkv.weight");
    CHECK(is_about(qkv.narrow(0, 0, 64), e.query));
    CHECK(is_about(qkv.narrow(0, 80, 16), e.value));
    CHECK(is_about(p.at("blocks.1.mixer.output.weight"), e.output));
    CHECK(is_about(p.at("blocks.1.feed_forward.gate_up.weight").narrow(0, 0, 176), e.gate));
    CHECK(is_about(p.at("blocks.1.feed_forward.down.weight"), e.down));
    CHECK(is_about(p.at("embedding.token"), 0.5));
    CHECK(is_about(p.at("head.weight"), 0.5));
    CHECK(is_about(p.at("embedding.up.weight"), 1 / std::sqrt(24.0)));
    CHECK(is_about(p.at("head_down.weight"), 1 / std::sqrt(64.0)));
  }
  // Xavier's is uniform: nothing beyond sqrt(3) deviations, and something close to it.
  const double bound = initialised_by("xavier").at("blocks.0.mixer.output.weight").abs().max().item<double>();
  CHECK(bound <= std::sqrt(6.0 / 128));
  CHECK(bound > 0.99 * std::sqrt(6.0 / 128));
}

TEST_CASE("initialisation: orthogonal matrices keep lengths") {
  const auto p = initialised_by("orthogonal");
  const auto is_orthonormal = [](const Tensor& rows) {
    // float32 copies of float64 factors: rounding of 64 products.
    return at::allclose(at::matmul(rows, rows.t()), torch::eye(rows.size(0)), 0, 1e-5);
  };
  const auto& qkv = p.at("blocks.0.mixer.qkv.weight");
  CHECK(is_orthonormal(qkv.narrow(0, 0, 64)));
  CHECK(is_orthonormal(qkv.narrow(0, 64, 16)));
  CHECK(is_orthonormal(qkv.narrow(0, 80, 16)));
  CHECK(is_orthonormal(p.at("blocks.0.feed_forward.gate_up.weight").narrow(0, 176, 176).t()));
  CHECK(is_orthonormal(p.at("blocks.0.feed_forward.down.weight")));
  CHECK(!at::allclose(qkv.narrow(0, 64, 16), qkv.narrow(0, 80, 16)));
}

TEST_CASE("initialisation: residual factors and dynamic tanh start where their options say") {
  const auto rezero = parameters_of(Transformer(small_options({.residual = "rezero"}), {}, 8, 1));
  CHECK(at::equal(rezero.at("blocks.0.residual1"), torch::zeros({1})));
  const auto scaled =
      parameters_of(Transformer(small_options({.residual = "layer_scale", .layer_scale = 0.25}), {}, 8, 1));
  CHECK(at::equal(scaled.at("blocks.1.residual2"), torch::full({12}, 0.25)));
  const auto squashed =
      parameters_of(Transformer(small_options({.norm = "dynamic_tanh", .dynamic_tanh_alpha = 0.75}), {}, 8, 1));
  CHECK(at::equal(squashed.at("final_norm.alpha"), torch::full({1}, 0.75)));
  CHECK(at::equal(squashed.at("blocks.0.norm2.weight"), torch::ones({12})));
}

TEST_CASE("initialisation: under muP matrices act as if their deviation fell with the root of the width") {
  // m = 4. Acting as W / m, gpt2's 0.02 x 2 / 4 is 0.02 / sqrt(4); Xavier's falls by itself.
  for (const std::string scheme : {"gpt2", "xavier", "orthogonal"}) {
    CAPTURE(scheme);
    const auto plain = small_options({.initialisation = scheme});
    auto mup = plain;
    mup.mup_base_dim = 3;
    const auto p = parameters_of(Transformer(plain, {}, 8, 1)), q = parameters_of(Transformer(mup, {}, 8, 1));
    const double factor = scheme == "gpt2" ? 2 : 4;
    for (const auto& [name, value] : p) {
      CAPTURE(name);
      const bool hidden = name.starts_with("blocks.") && value.dim() == 2;
      CHECK(at::allclose(q.at(name), value * (hidden ? factor : 1), 1e-6, 0));
    }
  }
}

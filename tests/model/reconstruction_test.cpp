#include "model/reconstruction.h"

#include <catch2/catch_test_macros.hpp>

#include <ATen/Functions.h>

#include "model/position.h"
#include "model/small_model.h"
#include "model/transformer.h"

using namespace attnscale;

namespace {

double largest_of(const Tensor& x) { return x.abs().max().item<double>(); }

template <class Module>
void randomise(Module& module) {
  const torch::NoGradGuard guard;
  module.to(torch::kFloat64);
  torch::manual_seed(2);
  for (auto& parameter : module.parameters()) parameter.normal_(0, 0.4);
  module.eval();
}

}  // namespace

TEST_CASE("reconstruction: each output is the two layers' of the last state and its position's sinusoid") {
  Reconstruction module(small_options({.head = "reconstruct"}), 8);
  randomise(module);
  const auto p = module.named_parameters();
  const torch::NoGradGuard guard;
  const auto x = at::randn({2, 7, 12}, torch::kFloat64);
  const auto norm = [&](const Tensor& row, const std::string& name) {  // Ba et al. 2016, equation 4
    const auto centred = row - row.mean();
    return p[name + ".weight"] * centred / (centred.square().mean() + 1e-5).sqrt() + p[name + ".bias"];
  };
  const auto gelu = [](const Tensor& v) { return 0.5 * v * (1 + at::erf(v / std::sqrt(2.0))); };
  const auto y = module.forward(x);
  for (int64_t row = 0; row < 2; ++row)
    for (int64_t t = 0; t < 7; ++t) {
      auto hidden = x[row][6] + sinusoidal_positions(8, 12)[t];
      for (const auto& [layer, before] : {std::pair{"first", "norm1"}, {"second", "norm2"}})
        hidden =
            gelu(at::mv(p[std::string(layer) + ".weight"], norm(hidden, before)) + p[std::string(layer) + ".bias"]);
      CHECK(largest_of(hidden - y[row][t]) < 1e-13);  // float64 sums of 12 in another order
    }
}

TEST_CASE("reconstruction: every output depends on every input, through the last position alone") {
  Transformer model(small_options({.head = "reconstruct"}), {}, 8, 1);
  randomise(model);
  const torch::NoGradGuard guard;
  const auto tokens = some_tokens(1, 6);
  const auto logits = model.forward(tokens);
  CHECK(logits.sizes() == at::IntArrayRef{1, 6, 11});
  for (int64_t changed = 0; changed < 6; ++changed) {
    auto other = tokens.clone();
    other[0][changed] = (tokens[0][changed].item<int64_t>() + 1) % 11;
    CHECK((model.forward(other) - logits).abs().amax(-1).min().item<double>() > 1e-6);
  }
  // A window of one more position has another last state and the same sinusoids.
  Reconstruction module(small_options({.head = "reconstruct"}), 8);
  randomise(module);
  auto stream = at::randn({1, 5, 12}, torch::kFloat64);
  const auto before = module.forward(stream);
  stream.narrow(1, 0, 4).add_(1);
  CHECK(at::equal(module.forward(stream), before));
}

TEST_CASE("reconstruction: under muP its matrices act as 1 / m of themselves") {
  Reconstruction mup(small_options({.head = "reconstruct", .mup_base_dim = 4}), 8);  // m = 3
  Reconstruction plain(small_options({.head = "reconstruct"}), 8);
  randomise(mup);
  randomise(plain);
  const torch::NoGradGuard guard;
  for (auto& item : plain.named_parameters())
    if (item.value().dim() == 2) item.value().div_(3);
  const auto x = at::randn({2, 5, 12}, torch::kFloat64);
  CHECK(largest_of(mup.forward(x) - plain.forward(x)) < 1e-13);
}

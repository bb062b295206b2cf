#include "model/residual.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>

#include <torch/nn/modules/transformerlayer.h>

#include "model/attention_choice.h"
#include "model/block.h"
#include "model/largest.h"
#include "model/small_model.h"

using namespace attnscale;

namespace {

/// A block of `options` at `layer`, float64, drawn at random.
std::shared_ptr<Block> random_block(const ModelOptions& options, int64_t layer = 0) {
  auto block = std::make_shared<Block>(
      options, layer,
      std::make_shared<Mixer>(options, AttentionChoice{}, attention_geometry(options, 16, layer), nullptr, 0),
      std::make_shared<RowDrops>());
  const torch::NoGradGuard guard;
  block->to(torch::kFloat64);
  torch::manual_seed(3);
  for (auto& parameter : block->parameters()) parameter.normal_(0, 0.5);
  return block;
}

/// Copies what has the same name.
void copy_common(const Block& from, Block& to) {
  const torch::NoGradGuard guard;
  auto target = to.named_parameters();
  for (const auto& item : from.named_parameters())
    if (target.contains(item.key())) target[item.key()].copy_(item.value());
}

Tensor some_stream() {
  torch::manual_seed(9);
  return torch::randn({2, 7, 12}, torch::kFloat64);
}

}  // namespace

TEST_CASE("residual: a block with the norm after is torch's TransformerEncoderLayer, with its gradients") {
  for (const std::string activation : {"relu", "gelu"}) {
    CAPTURE(activation);
    const auto options = small_options({.norm_placement = "after", .feed_forward = activation});
    const auto block = random_block(options);
    auto theirs_options = torch::nn::TransformerEncoderLayerOptions(12, 3).dim_feedforward(48).dropout(0);
    if (activation == "relu") theirs_options.activation(torch::kReLU);
    else theirs_options.activation(torch::kGELU);
    torch::nn::TransformerEncoderLayer theirs(theirs_options);
    theirs->to(torch::kFloat64);
    auto p = block->named_parameters();
    const std::map<std::string, std::string> names = {{"self_attn.in_proj_weight", "mixer.qkv.weight"},
                                                      {"self_attn.in_proj_bias", "mixer.qkv.bias"},
                                                      {"self_attn.out_proj.weight", "mixer.output.weight"},
                                                      {"self_attn.out_proj.bias", "mixer.output.bias"},
                                                      {"linear1.weight", "feed_forward.up.weight"},
                                                      {"linear1.bias", "feed_forward.up.bias"},
                                                      {"linear2.weight", "feed_forward.down.weight"},
                                                      {"linear2.bias", "feed_forward.down.bias"},
                                                      {"norm1.weight", "norm1.weight"},
                                                      {"norm1.bias", "norm1.bias"},
                                                      {"norm2.weight", "norm2.weight"},
                                                      {"norm2.bias", "norm2.bias"}};
    {
      const torch::NoGradGuard guard;
      for (auto& item : theirs->named_parameters()) item.value().copy_(p[names.at(item.key())]);
    }
    const auto x = some_stream();
    const auto future = torch::ones({7, 7}, torch::kFloat64).triu(1) * -1e30;
    const auto expected = theirs->forward(x.transpose(0, 1), future).transpose(0, 1);  // theirs: [T, B, M]
    const auto y = block->forward(x, 0, nullptr);
    // float64 through ten products of width 12 to 48.
    CHECK(largest(y - expected) < 1e-12);
    const auto weights = at::cos(torch::arange(y.numel(), torch::kFloat64)).view(y.sizes());
    (y * weights).sum().backward();
    (expected * weights).sum().backward();
    for (const auto& item : theirs->named_parameters()) {
      CAPTURE(item.key());
      CHECK(largest(item.value().grad() - p[names.at(item.key())].grad()) < 1e-10);
    }
  }
}

TEST_CASE("residual: DeepNorm is the norm after of a stream scaled by (2 depth)^(1/4)") {
  // LayerNorm does not see a common factor: norm(a x + f(x)) = norm(x + f(x) / a) once epsilon is divided by a^2.
  const double alpha = std::pow(4.0, 0.25);
  const auto deep = random_block(small_options({.norm_placement = "deep_norm", .norm_epsilon = 0.02}));
  const auto after = random_block(small_options({.norm_placement = "after", .norm_epsilon = 0.02 / (alpha * alpha)}));
  copy_common(*deep, *after);
  const torch::NoGradGuard guard;
  for (auto& item : after->named_parameters())
    if (item.key().find("output.") != std::string::npos || item.key().find("down.") != std::string::npos)
      item.value().div_(alpha);
  const auto x = some_stream();
  CHECK(largest(deep->forward(x, 0, nullptr) - after->forward(x, 0, nullptr)) < 1e-12);
}

TEST_CASE("residual: factors are those of the matrices that write into the stream") {
  const auto x = some_stream();
  const torch::NoGradGuard guard;
  for (const std::string kind : {"scaled", "rezero", "layer_scale"}) {
    CAPTURE(kind);
    const auto block = random_block(small_options({.residual = kind}));
    const auto plain = random_block(small_options());
    copy_common(*block, *plain);
    const auto p = block->named_parameters();
    const auto factor = [&](const char* name) {                              // [M]
      if (kind == "scaled") return torch::full({12}, 0.5, torch::kFloat64);  // 1 / sqrt(2 x 2)
      return p[name].expand({12});
    };
    auto target = plain->named_parameters();
    for (const auto& [module, name] : {std::pair{"mixer.output", "residual1"}, {"feed_forward.down", "residual2"}}) {
      target[std::string(module) + ".weight"].mul_(factor(name).unsqueeze(1));
      target[std::string(module) + ".bias"].mul_(factor(name));
    }
    CHECK(largest(block->forward(x, 0, nullptr) - plain->forward(x, 0, nullptr)) < 1e-12);
  }
}

TEST_CASE("residual: a block whose ReZero numbers are 0 is the identity") {
  const auto block = random_block(small_options({.norm = "none", .residual = "rezero"}));
  const torch::NoGradGuard guard;
  block->named_parameters()["residual1"].zero_();
  block->named_parameters()["residual2"].zero_();
  CHECK(at::equal(block->forward(some_stream(), 0, nullptr), some_stream()));
}

TEST_CASE("residual: stochastic depth drops whole rows, as often as the depth says, from a stream of its own") {
  const auto options = small_options({.stochastic_depth = 0.4});
  const torch::NoGradGuard guard;
  for (const int64_t layer : {0, 1}) {
    CAPTURE(layer);
    torch::nn::Module owner;
    const auto drops = std::make_shared<RowDrops>();
    const Residual residual(owner, options, layer, 1, drops);
    const double drop = 0.4 * static_cast<double>(layer + 1) / 2;
    const auto x = torch::zeros({4096, 3, 12});
    const auto draw = [&](uint64_t seed) {
      drops->seed(seed);
      return residual.write(x, torch::ones_like(x), true, {}).stream;
    };
    torch::manual_seed(1);
    const auto y = draw(5);
    const auto rows = y.select(2, 0).select(1, 0);
    CHECK(at::equal(y, rows.view({-1, 1, 1}).expand_as(y)));
    const auto dropped = rows == 0;
    CHECK(at::all(at::logical_or(dropped, (rows - 1 / (1 - drop)).abs() < 1e-6)).item<bool>());
    // 4096 draws: standard error at most 0.0077; five of them.
    CHECK(std::abs(dropped.to(torch::kFloat64).mean().item<double>() - drop) < 0.04);
    const auto untouched = torch::randn({3});
    torch::manual_seed(1);
    CHECK(at::equal(torch::randn({3}), untouched));  // the default generator never moved
    CHECK(at::equal(draw(5), y));
    CHECK(!at::equal(draw(6), y));
    CHECK(at::equal(residual.write(x, torch::ones_like(x), false, {}).stream, torch::ones_like(x)));
  }
}

// What an optimiser makes of a parameter's name: its role in an encoder, and its epsilon under muP.

#include <map>

#include <catch2/catch_test_macros.hpp>

#include "train/optimizer.h"

using namespace attnscale;

namespace {

Tensor grouped_leaf(at::IntArrayRef shape) { return at::randn(shape, at::kDouble).requires_grad_(); }

const std::vector<std::string> names = {"embedding.token", "blocks.0.norm1.weight", "blocks.0.mixer.output.weight",
                                        "encoder.blocks.1.feed_forward.up.weight", "head.weight"};

/// What three steps change, told that the model is `m` times as wide, under gradients of one `width` times as wide.
std::map<std::string, Tensor> moves(const TrainOptions& options, double m, double width) {
  at::manual_seed(3);
  std::vector<std::pair<std::string, Tensor>> parameters;
  std::map<std::string, Tensor> before;
  for (const auto& name : names) {
    parameters.emplace_back(
        name, grouped_leaf(name.find("norm") == std::string::npos ? at::IntArrayRef{4, 3} : at::IntArrayRef{3}));
    before[name] = parameters.back().second.detach().clone();
  }
  const auto optimizer = make_optimizer(parameters, resolved(options), m);
  for (int step = 0; step < 3; ++step) {
    for (const auto& [name, parameter] : parameters) {
      const bool hidden = name.find("mixer") != std::string::npos || name.find("feed_forward") != std::string::npos;
      // Of the size of epsilon, so that it is felt.
      parameter.mutable_grad() = 1e-8 * at::randn(parameter.sizes(), at::kDouble) / (hidden ? width * width : width);
    }
    optimizer->step(0.1);
  }
  for (const auto& [name, parameter] : parameters) before[name] = parameter.detach() - before[name];
  return before;
}

}  // namespace

TEST_CASE("optimizer: under muP epsilon shrinks with the gradients, so that wide models are not held back") {
  for (const auto& options :
       {TrainOptions{.optimizer = "adamw", .weight_decay = 0.0}, TrainOptions{.optimizer = "adam"},
        TrainOptions{.schedule = "schedule_free", .optimizer = "adamw", .weight_decay = 0.0}}) {
    INFO(options.optimizer << " " << options.schedule);
    const auto narrow = moves(options, 1, 1), wide = moves(options, 8, 8), held_back = moves(options, 1, 8);
    for (const auto& name : names) {
      INFO(name);
      const auto scale = narrow.at(name).abs().max().item<double>();
      CHECK((wide.at(name) - narrow.at(name)).abs().max().item<double>() < 1e-9 * scale + 1e-15);
    }
    const auto free = narrow.at("head.weight").norm(), held = held_back.at("head.weight").norm();
    CHECK((held / free).item<double>() < 0.5);  // what epsilon as it is would do
  }
}

TEST_CASE("optimizer: the matrices and tables of an encoder have the roles of those of a stack without one") {
  const std::vector<std::pair<std::string, Tensor>> parameters = {
      {"encoder.blocks.0.mixer.qkv.weight", grouped_leaf({6, 2})},
      {"encoder.position_bias.weight", grouped_leaf({4, 2})},
      {"encoder.final_norm.weight", grouped_leaf({2})},
      {"blocks.0.cross.output.weight", grouped_leaf({2, 2})}};
  const auto optimizer =
      make_optimizer(parameters, resolved({.optimizer = "muon", .weight_decay = 0.5, .decay_embeddings = false}));
  std::map<std::string, std::pair<bool, double>> seen;  // is a hidden matrix; decay
  for (const auto& slot : optimizer->slots()) seen[slot.name] = {slot.hidden_matrix, slot.weight_decay};
  const std::map<std::string, std::pair<bool, double>> expected = {{"encoder.blocks.0.mixer.qkv.weight", {true, 0.5}},
                                                                   {"encoder.position_bias.weight", {false, 0}},
                                                                   {"encoder.final_norm.weight", {false, 0}},
                                                                   {"blocks.0.cross.output.weight", {true, 0.5}}};
  CHECK(seen == expected);
}

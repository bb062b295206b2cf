#include "train/watch.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <ATen/Functions.h>

#include "core/files.h"
#include "scratch_folder.h"
#include "train/stepper.h"
#include "train/trainer.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t watched_context = 6;

ModelOptions watched_model() {
  return resolved(ModelOptions{.depth = 2, .model_dim = 8, .num_heads = 2, .feed_forward = "relu"}, 5);
}

TrainOptions plain_descent(int64_t accumulate = 1) {
  TrainOptions options;
  options.batch_size = 4;
  options.accumulate = accumulate;
  options.learning_rate = 0.25;
  options.warmup_steps = 0;
  options.schedule = "constant";
  options.optimizer = "sgd";
  options.momentum = 0.0;
  options.clip_norm = 0;
  options.dtype = "float64";
  return options;
}

Questions some_questions() {
  torch::manual_seed(3);
  return {torch::randint(5, {4, watched_context}, torch::kInt64),
          torch::randint(5, {4, watched_context}, torch::kInt64)};
}

const LayerLook& of_layer(const Look& look, const std::string& name) {
  for (const auto& [layer, numbers] : look.layers)
    if (layer == name) return numbers;
  FAIL("no layer " << name);
  return look.layers.front().second;
}

double norm_by_hand(const Transformer& model, const std::string& layer) {
  double sum = 0;
  for (const auto& item : model.named_parameters())
    if (item.key().starts_with(layer + ".")) sum += item.value().detach().square().sum().item<double>();
  return std::sqrt(sum);
}

bool near(double a, double b, double tolerance) { return std::abs(a - b) <= tolerance * std::max(1e-300, std::abs(b)); }

Json watched_row(const std::filesystem::path& folder, const Json& train) {
  auto json = Json::parse(R"({
    "model": {"depth": 2, "model_dim": 16, "num_heads": 2, "dropout": 0.2},
    "data": {"source": "zipf_memory", "context": 7, "num_keys": 10, "num_labels": 4},
    "train": {"steps": 12, "batch_size": 4, "accumulate": 2, "eval_every": 6, "eval_tokens": 100}})");
  json["train"].update(train);
  std::vector<Problem> problems;
  const auto config = RunConfig::from_json(json, problems);
  for (const auto& problem : problems) UNSCOPED_INFO(problem.path << ": " << problem.message);
  REQUIRE(problems.empty());
  return train_run(config, {.folder = folder});
}

/// Rows of the log that are steps, without looks and evaluations.
std::vector<Json> steps_of(const std::filesystem::path& folder) {
  std::vector<Json> rows;
  std::istringstream log(read_file(folder / "log.jsonl"));
  for (std::string line; std::getline(log, line);)
    if (auto row = Json::parse(line); row.contains("gradient_norm")) rows.push_back(row);
  return rows;
}

}  // namespace

TEST_CASE("watch: plain descent's update is the rate times the gradient, in every layer; the norms are the weights'") {
  Transformer model(watched_model(), {}, watched_context, 1);
  Stepper stepper(model, plain_descent());
  std::map<std::string, double> before;
  for (const auto* layer : {"embedding", "blocks.0", "blocks.1", "final_norm"})
    before[layer] = norm_by_hand(model, layer);
  StepLook watched;
  const auto result = stepper.step(some_questions(), 1, &watched);
  const auto& look = watched.look();
  REQUIRE(look.layers.size() == before.size());
  CHECK(look.layers[0].first == "embedding");
  CHECK(look.layers[1].first == "blocks.0");
  double squares = 0;
  for (const auto& [layer, weight] : before) {
    INFO(layer);
    const auto& found = of_layer(look, layer);
    CHECK(near(found.at("weight_norm"), weight, 1e-12));
    CHECK(found.at("gradient_norm") > 0);
    CHECK(near(found.at("update_norm"), 0.25 * found.at("gradient_norm"), 1e-9));
    squares += std::pow(found.at("gradient_norm"), 2);
  }
  CHECK(near(std::sqrt(squares), result.gradient_norm, 1e-12));
  CHECK_FALSE(look.noise_scale);  // one pass shows no noise
}

TEST_CASE("watch: the noise scale by hand, and none where two passes see the same") {
  // |G|^2 = 4 and tr(Sigma) = 12: over 2 windows 4 + 6, over 8 windows 4 + 1.5.
  CHECK(near(noise_scale(10, 5.5, 2, 8).value(), 3, 1e-12));
  CHECK_FALSE(noise_scale(10, 1, 2, 8));  // the gradient's estimate is below zero

  Transformer model(watched_model(), {}, watched_context, 1);
  Stepper stepper(model, plain_descent(2));
  auto [inputs, targets] = some_questions();
  inputs.narrow(0, 2, 2).copy_(inputs.narrow(0, 0, 2).clone());
  targets.narrow(0, 2, 2).copy_(targets.narrow(0, 0, 2).clone());
  StepLook watched;
  stepper.step({inputs, targets}, 1, &watched);
  // Equal gradients up to rounding, whose sign decides whether there is an estimate.
  CHECK(watched.look().noise_scale.value_or(0) < 1e-9);

  Transformer other(watched_model(), {}, watched_context, 1);
  Stepper of_others(other, plain_descent(2));
  StepLook noisy;
  of_others.step(some_questions(), 1, &noisy);
  CHECK(noisy.look().noise_scale.value_or(1) > 1e-3);
}

TEST_CASE("watch: units that nothing activates are counted") {
  Transformer model(watched_model(), {}, watched_context, 1);
  {
    const torch::NoGradGuard guard;
    auto parameters = model.named_parameters();
    parameters["blocks.1.feed_forward.up.bias"].fill_(5);  // all live
    parameters["blocks.0.feed_forward.up.bias"].fill_(5);
    parameters["blocks.0.feed_forward.up.bias"].narrow(0, 0, 8).fill_(-1000);  // 8 of 32 never are
  }
  Stepper stepper(model, plain_descent());
  StepLook watched;
  stepper.step(some_questions(), 1, &watched);
  CHECK(of_layer(watched.look(), "blocks.0").at("dead_units") == 0.25);
  CHECK(of_layer(watched.look(), "blocks.1").at("dead_units") == 0);
  CHECK_FALSE(of_layer(watched.look(), "embedding").contains("dead_units"));
}

TEST_CASE("watch: experts that no position chose, and branches that ReZero shuts off, are not called dead") {
  const auto dead_units = [](ModelOptions options) {
    Transformer model(resolved(options, 5), {}, watched_context, 1);
    {
      const torch::NoGradGuard guard;
      for (auto& item : model.named_parameters()) {
        if (item.key().ends_with("up.bias")) item.value().fill_(5);  // all live where they are asked
        if (item.key().ends_with("router.weight")) item.value().zero_();  // ties: every position takes the first
      }
    }
    Stepper stepper(model, plain_descent());
    StepLook watched;
    stepper.step(some_questions(), 1, &watched);
    const auto& layer = of_layer(watched.look(), "blocks.0");
    return layer.contains("dead_units") ? layer.at("dead_units") : -1;
  };
  ModelOptions options{.depth = 1, .model_dim = 8, .num_heads = 2, .feed_forward = "relu"};
  CHECK(dead_units(options) == 0);
  auto experts = options;
  experts.experts = 4;
  experts.experts_per_token = 1;
  CHECK(dead_units(experts) == 0);
  auto rezero = options;
  rezero.residual = "rezero";
  CHECK(dead_units(rezero) == -1);
}

TEST_CASE("watch: blocks of zeros pass the stream on, and queries of zeros attend to all alike") {
  Transformer model(watched_model(), {}, watched_context, 1);
  model.to(torch::kFloat64);
  auto parameters = model.named_parameters();
  {
    const torch::NoGradGuard guard;
    for (auto& item : parameters)
      if (item.key().starts_with("blocks.")) item.value().zero_();
    for (const auto* name : {"blocks.0.norm1.weight", "blocks.0.mixer.qkv.weight"}) parameters[name].fill_(1);
    parameters["blocks.0.mixer.qkv.weight"].narrow(0, 0, 8).zero_();  // queries
    parameters["blocks.0.mixer.qkv.bias"].narrow(0, 16, 8).fill_(1);  // values, so that there is something to take
  }
  const auto inputs = some_questions().inputs;
  Look look;
  model.train();
  look_at_activations(model, {}, inputs, 1, look);
  CHECK(model.is_training());
  const auto stream = parameters["embedding.token"].detach().index({inputs}) +
                      parameters["embedding.position"].detach().narrow(0, 0, watched_context);
  for (const auto* layer : {"blocks.0", "blocks.1"})
    CHECK(near(of_layer(look, layer).at("stream_rms"), stream.square().mean().sqrt().item<double>(), 1e-9));
  CHECK(near(of_layer(look, "blocks.0").at("attention_share"), 1, 1e-9));
  // Mean of ln 2 .. ln 6: the first position has no choice.
  CHECK(near(of_layer(look, "blocks.0").at("attention_entropy"), std::lgamma(7.0) / 5, 1e-9));
  CHECK(of_layer(look, "blocks.0").at("logit_max") == 0);
}

TEST_CASE("watch: the largest logit is that of a pair by hand") {
  Transformer model(watched_model(), {}, watched_context, 1);
  model.to(torch::kFloat64);
  {
    const torch::NoGradGuard guard;
    auto parameters = model.named_parameters();
    parameters["blocks.0.mixer.qkv.weight"].zero_();
    parameters["blocks.0.mixer.qkv.bias"].fill_(3);  // q . k = 4 x 9, over sqrt(4)
  }
  Look look;
  look_at_activations(model, {}, some_questions().inputs, 1, look);
  CHECK(near(of_layer(look, "blocks.0").at("logit_max"), 18, 1e-12));
}

TEST_CASE("watch: looking changes no step of a run, and the result has the looks as columns") {
  const ScratchFolder scratch;
  const auto plain = watched_row(scratch / "plain", Json::object());
  const auto watched = watched_row(scratch / "watched", {{"watch_every", 4}});
  CHECK(steps_of(scratch / "plain") == steps_of(scratch / "watched"));
  CHECK(plain["loss"] == watched["loss"]);
  CHECK_FALSE(plain.contains("watch"));
  CHECK_FALSE(plain.contains("alarms"));
  CHECK(watched["watch"]["steps"] == Json({1, 4, 8, 12}));
  CHECK(watched["watch"]["learning_rate"].size() == 4);
  for (const auto* what :
       {"gradient_norm", "weight_norm", "update_norm", "stream_rms", "attention_entropy", "attention_share",
        "logit_max", "dead_units", "attention_distance", "head_overlap", "induction"})
    CHECK(watched["watch"]["layers"]["blocks.1"][what].size() == 4);
  CHECK(watched["alarms"].is_array());
}

TEST_CASE("watch: alarms say once what is wrong, where, since when, and what to do") {
  const auto row = [](int64_t step, double dead, double share) {
    return Json{
        {"step", step},
        {"layers", {{"blocks.0", {{"dead_units", dead}, {"attention_share", share}}}, {"embedding", Json::object()}}}};
  };
  CHECK(alarms_of({row(1, 0.4, 0.5)}, std::nullopt, "").empty());
  const auto alarms = alarms_of({row(1, 0.4, 0.5), row(2, 0.6, 0.5), row(3, 0.7, 0.01)}, 4, "the loss is not finite");
  REQUIRE(alarms.size() == 3);
  CHECK(alarms[0]["kind"] == "dead_units");
  CHECK(alarms[0]["step"] == 2);
  CHECK(alarms[0]["layer"] == "blocks.0");
  CHECK(alarms[1]["kind"] == "entropy_collapse");
  CHECK(alarms[1]["step"] == 3);
  CHECK_THAT(alarms[1]["advice"].get<std::string>(), ContainsSubstring("qk_norm"));
  CHECK(alarms[2]["kind"] == "nan");
  CHECK(alarms[2]["step"] == 4);
  CHECK_THAT(alarms[2]["advice"].get<std::string>(), ContainsSubstring("learning_rate"));
}

#include "train/captured_step.h"

#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "attention/registry.h"
#include "core/error.h"
#include "data/registry.h"
#include "scratch_folder.h"
#include "train/host_traffic.h"
#include "train/rehearsal_graph.h"
#include "train/run_of.h"
#include "train/stepper.h"
#include "train/trainer.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

constexpr int64_t length = 20, num_steps = 10;

/// A model in training, step by step.
class Training {
 public:
  Training(TrainOptions options, bool captured, ModelOptions shape = {}, const AttentionChoice& attention = {})
      : info_(source_named("zipf_memory")), source_(info_.make(info_.resolve(Json::object()))) {
    shape.depth = 2, shape.model_dim = 16, shape.num_heads = 2;
    options.steps = num_steps;
    if (captured) options.cuda_graph = true;
    options_ = options;
    model_options_ = resolved(shape, source_->vocab_size(), length);
    model_ = std::make_unique<Transformer>(model_options_, attention, length, 1);
    stepper_ = std::make_unique<Stepper>(*model_, options);
  }

  StepResult step(std::optional<int64_t> rows = {}, StepLook* watched = nullptr) {
    const auto batch = source_->batch(Split::train, 1, ++step_, rows.value_or(options_.batch_size), length);
    return stepper_->step(questions_of(batch, model_options_, 0), step_, watched);
  }

  TensorMap weights() const {
    TensorMap result;
    for (const auto& item : model_->named_parameters()) result[item.key()] = item.value().detach().clone();
    return result;
  }

  Transformer& model() { return *model_; }
  Stepper& stepper() { return *stepper_; }

 private:
  const SourceInfo& info_;
  std::shared_ptr<const Source> source_;
  TrainOptions options_;
  ModelOptions model_options_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<Stepper> stepper_;
  int64_t step_ = 0;
};

double distance(const TensorMap& a, const TensorMap& b) {
  double result = 0;
  for (const auto& [name, tensor] : a) result = std::max(result, (tensor - b.at(name)).abs().max().item<double>());
  return result;
}

double distance_of_weights(const Training& a, const Training& b) { return distance(a.weights(), b.weights()); }

// Both compute in float32, the factor of clipping as a quotient here and as a product there: 1e-7 of each number in
// each step, which AdamW's quotient enlarges where a gradient is about 0. Without an update of one step of the ten, or
// with the rate of the step before, the weights would be 1e-3 apart.
constexpr double near = 5e-5;

}  // namespace

TEST_CASE("captured step: steps that are replayed give the losses and weights of steps that the host leads") {
  const rehearsal::OnCpu cpu;
  const TrainOptions plain{.batch_size = 6, .learning_rate = 0.01};
  const auto with = [&](auto change) {
    auto options = plain;
    change(options);
    return options;
  };
  ModelOptions dropping;
  dropping.dropout = 0.2;
  const std::vector<std::tuple<const char*, TrainOptions, ModelOptions>> cases = {
      {"plain", plain, {}},
      {"dropout", plain, dropping},
      {"clipped hard", with([](auto& o) { o.clip_norm = 0.1; }), {}},
      {"not clipped", with([](auto& o) { o.clip_norm = 0; }), {}},
      {"each layer", with([](auto& o) { o.clip = "per_layer_norm", o.clip_norm = 0.1; }), {}},
      {"each number", with([](auto& o) { o.clip = "value", o.clip_value = 0.01; }), {}},
      {"in parts", with([](auto& o) { o.accumulate = 3; }), {}},
      {"average", with([](auto& o) { o.ema_decay = 0.9; }), {}},
      {"adam", with([](auto& o) { o.optimizer = "adam", o.weight_decay = 0.1; }), {}},
      {"rates", with([](auto& o) { o.vector_rate = 3.0, o.decay_vectors = true; }), {}},
      {"objective", with([](auto& o) { o.label_smoothing = 0.1, o.z_loss = 0.01; }), {}},
  };
  for (const auto& [name, options, shape] : cases) {
    INFO(name);
    rehearsal::counts() = {};
    Training led(options, false, shape), captured(options, true, shape);
    const auto start = led.weights();
    for (int64_t step = 1; step <= num_steps; ++step) {
      const auto a = led.step(), b = captured.step();
      REQUIRE(b.finite);
      CHECK(std::abs(a.loss - b.loss) < near);
      CHECK(std::abs(a.gradient_norm - b.gradient_norm) < near * std::max(1.0, a.gradient_norm) * 10);
      CHECK(a.learning_rate == b.learning_rate);
    }
    CHECK(distance_of_weights(led, captured) < near);
    CHECK(distance(start, captured.weights()) > 0.01);
    CHECK(distance(led.stepper().evaluated_weights(), captured.stepper().evaluated_weights()) < near);
    CHECK(led.stepper().optimizer().steps_taken() == captured.stepper().optimizer().steps_taken());
    CHECK(rehearsal::counts().recordings == 1);
    CHECK(rehearsal::counts().replays == num_steps - CapturedStep::steps_before);
  }
}

TEST_CASE("captured step: bfloat16 products are cast from the weights of each step") {
  const rehearsal::OnCpu cpu;
  TrainOptions options{.batch_size = 6, .learning_rate = 0.01};
  options.dtype = "bfloat16";
  Training led(options, false), captured(options, true);
  // Rounded to 8 bits, products of nearly the same weights may differ by a last bit: 0.004 of logits of about 1.
  for (int64_t step = 1; step <= num_steps; ++step) CHECK(std::abs(led.step().loss - captured.step().loss) < 0.004);
  CHECK(rehearsal::counts().replays > 0);
}

TEST_CASE("captured step: what is not finite leaves the weights alone, is blamed, and is over with the next step") {
  const rehearsal::OnCpu cpu;
  Training training({.batch_size = 6, .learning_rate = 0.01}, true);
  for (int i = 0; i < 6; ++i) training.step();
  REQUIRE(rehearsal::counts().replays == 3);
  auto gain = training.model().named_parameters()["final_norm.weight"].detach();
  const auto good = gain.clone();
  gain.fill_(INFINITY);
  const auto before = training.weights();
  const auto taken = training.stepper().optimizer().steps_taken();
  const auto result = training.step();
  CHECK_FALSE(result.finite);
  CHECK_THAT(result.cause, ContainsSubstring("neither is final_norm.weight"));
  for (const auto& [name, tensor] : training.weights()) CHECK(at::equal(tensor, before.at(name)));
  CHECK(training.stepper().optimizer().steps_taken() == taken);
  gain.copy_(good);
  CHECK(training.step().finite);
  CHECK(training.stepper().optimizer().steps_taken() == taken + 1);
}

TEST_CASE("captured step: gradients that overflow float16 halve the scale that the next replay reads") {
  const rehearsal::OnCpu cpu;
  TrainOptions options{.batch_size = 6, .learning_rate = 0.01};
  options.dtype = "float16";
  options.loss_scale = 0x1p22;
  Training led(options, false), captured(options, true);
  int overflows = 0;
  for (int64_t step = 1; step <= num_steps; ++step) {
    const auto a = led.step(), b = captured.step();
    CHECK(a.overflow == b.overflow);
    CHECK(a.loss_scale == b.loss_scale);
    overflows += b.overflow;
  }
  CHECK(overflows > CapturedStep::steps_before);  // in replays too
  CHECK(overflows < num_steps);
  CHECK(distance_of_weights(led, captured) < 0.01);  // float16 products of nearly the same weights
}

TEST_CASE("captured step: batches of another shape are recorded anew, watched steps are led by the host") {
  const rehearsal::OnCpu cpu;
  const TrainOptions options{.batch_size = 6, .learning_rate = 0.01};
  Training led(options, false), captured(options, true);
  const auto both = [&](int64_t rows, bool watched) {
    StepLook a, b;
    const auto one = led.step(rows, watched ? &a : nullptr), other = captured.step(rows, watched ? &b : nullptr);
    CHECK(std::abs(one.loss - other.loss) < near);
  };
  for (int i = 0; i < 5; ++i) both(4, false);
  CHECK(rehearsal::counts().replays == 2);
  both(4, true);
  CHECK(rehearsal::counts().replays == 2);
  both(4, false);
  CHECK(rehearsal::counts().replays == 3);
  for (int i = 0; i < 5; ++i) both(6, false);
  CHECK(rehearsal::counts().replays == 5);
  CHECK(rehearsal::counts().recordings == 2);
  CHECK(distance_of_weights(led, captured) < near);
}

TEST_CASE("captured step: every variant's steps are replayed to the same weights, or refused") {
  const rehearsal::OnCpu cpu;
  std::set<std::string> refused;
  for (const auto& variant : all_variants()) {
    INFO(variant.name);
    if (!variant.traits.contains(Trait::causal)) continue;
    const AttentionChoice choice{.variant = variant.name, .options = variant.resolve(Json::object())};
    const TrainOptions options{.batch_size = 2, .learning_rate = 0.01};
    Training led(options, false, {}, choice), captured(options, true, {}, choice);
    try {
      for (int i = 0; i < 6; ++i) led.step(), captured.step();
      CHECK(distance_of_weights(led, captured) < 1e-3);
    } catch (const ConfigError& error) {
      CHECK_THAT(error.what(), ContainsSubstring("cannot be one CUDA graph"));
      refused.insert(variant.name);
    }
  }
  // These lay out blocks, or their decays, in lists of the host's. Others may on a device, which the CPU cannot show.
  CHECK(refused == std::set<std::string>{"bigbird", "block_sparse", "dilated", "lightning", "log_linear", "longformer",
                                         "native_sparse"});
}

TEST_CASE("captured step: a step that asks the host for a number is refused with the operator's name") {
  const rehearsal::OnCpu cpu;
  ModelOptions mixture;
  mixture.experts = 2;
  Training training({.batch_size = 6}, true, mixture);
  for (int i = 0; i < CapturedStep::steps_before; ++i) training.step();
  CHECK_THROWS_MATCHES(training.step(), ConfigError, MessageMatches(ContainsSubstring("aten::nonzero")));
}

TEST_CASE("captured step: what a graph cannot hold is refused by name") {
  const auto problem = [](TrainOptions options) {
    options.device = "cuda";
    options.cuda_graph = true;
    const auto problems = captured_step_problems(resolved(options));
    REQUIRE(problems.size() <= 1);
    return problems.empty() ? "" : problems[0].path + ": " + problems[0].message;
  };
  CHECK(problem({}).empty());
  CHECK(problem({.optimizer = "adam"}).empty());
  for (const auto* other : {"sgd", "lion", "adafactor", "muon"})
    CHECK_THAT(problem({.optimizer = other}), ContainsSubstring(std::string("of adamw and adam, not of ") + other));
  CHECK_THAT(problem({.schedule = "schedule_free"}), ContainsSubstring("not of schedule_free"));
  CHECK_THAT(problem({.dtype = "float64"}), ContainsSubstring("float64"));
  CHECK_THAT(problem({.activation_checkpointing = true}), ContainsSubstring("activation_checkpointing"));
  CHECK(captured_step_problems(resolved(TrainOptions{.optimizer = "lion"})).empty());
}

TEST_CASE("host traffic: copies between host and device are found, those on one side are not") {
  const auto far = at::TensorOptions(at::kMeta);  // a device without numbers, which is all that a copy needs
  const auto here = at::ones({3});
  const auto there = at::empty({3}, far);
  {
    const HostTraffic traffic;
    (there * 2).sum();
    (here * 2).sum().item<float>();
    here.clone();
    CHECK_FALSE(HostTraffic::found());
    there.copy_(here);
    CHECK(HostTraffic::found() == "aten::copy_ from cpu to meta");
  }
  const HostTraffic traffic;
  CHECK_FALSE(HostTraffic::found());
  CHECK_THROWS(there.sum().item<float>());
  CHECK(HostTraffic::found() == "aten::_local_scalar_dense from meta to cpu");
}

TEST_CASE("captured step: on a CUDA device a run with graphs computes what one without does, and resumes", "[cuda]") {
  if (!has_device_graphs(at::kCUDA) || !at::hasCUDA()) SKIP("no CUDA device, or built without its graphs");
  const ScratchFolder scratch;
  const auto run = [&](const char* dtype, double dropout, bool graphs, const char* folder) {
    auto json = Json::parse(R"({
      "model": {"depth": 2, "model_dim": 64, "num_heads": 4},
      "data": {"source": "zipf_memory", "context": 64},
      "train": {"steps": 60, "batch_size": 16, "eval_tokens": 1024, "device": "cuda"}})");
    json["model"]["dropout"] = dropout;
    json["train"]["dtype"] = dtype;
    if (graphs) json["train"]["cuda_graph"] = true;
    const auto config = run_of(json, Json::object());
    int64_t left = 20;  // interrupted once
    train_run(config, {scratch / folder, {}, [&] { return --left == 0; }});
    return train_run(config, {scratch / folder, {}, {}});
  };
  const auto exact = run("float32", 0, false, "a"), replayed = run("float32", 0, true, "b");
  REQUIRE(replayed["status"] == "done");
  CHECK(replayed["id"] == exact["id"]);
  // Sixty float32 steps that round clipping's factor another way.
  CHECK(std::abs(replayed["loss"].get<double>() - exact["loss"].get<double>()) < 1e-3);
  const auto drops = run("float32", 0.1, false, "c"), same_drops = run("float32", 0.1, true, "d");
  CHECK(std::abs(drops["loss"].get<double>() - same_drops["loss"].get<double>()) < 1e-3);  // the same masks
  for (const auto* dtype : {"bfloat16", "float16"}) CHECK(run(dtype, 0, true, dtype)["status"] == "done");
}

#include "train/options.h"

#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<Problem> training_problems(const Json& json) {
  TrainOptions options;
  std::vector<Problem> problems;
  read_options(json, "train", options, problems);
  if (!problems.empty()) return problems;
  return train_problems(resolved(options));
}

Json written_back(const Json& json) {
  TrainOptions options;
  std::vector<Problem> problems;
  read_options(json, "train", options, problems);
  REQUIRE(problems.empty());
  return write_options(resolved(options));
}

}  // namespace

TEST_CASE("train options: each one without effect beside the others is refused with what would give it one") {
  struct Case {
    Json json;
    const char* refused;
    const char* words;
  };
  const Case cases[] = {
      {{{"ramp_fraction", 0.5}}, "ramp_fraction", "initial_batch_size or initial_context"},
      {{{"momentum", 0.9}}, "momentum", "optimizer sgd or muon"},
      {{{"optimizer", "sgd"}, {"beta1", 0.9}}, "beta1", "optimizer adamw, adam, lion or muon"},
      {{{"optimizer", "adafactor"}, {"beta2", 0.9}}, "beta2", "optimizer adamw, adam, lion or muon"},
      {{{"optimizer", "lion"}, {"epsilon", 1e-8}}, "epsilon", "optimizer adamw, adam, adafactor or muon"},
      {{{"optimizer", "sgd"}, {"momentum", 0.0}, {"nesterov", true}},
       "nesterov",
       "optimizer sgd or muon, momentum above 0 and another schedule than schedule_free"},
      {{{"optimizer", "sgd"}, {"schedule", "schedule_free"}, {"nesterov", true}},
       "nesterov",
       "optimizer sgd or muon, momentum above 0 and another schedule than schedule_free"},
      {{{"schedule", "schedule_free"}, {"ema_decay", 0.9}}, "ema_decay", "another schedule than schedule_free"},
      {{{"newton_schulz_steps", 5}}, "newton_schulz_steps", "optimizer muon"},
      {{{"decay_exponent", 0.8}}, "decay_exponent", "optimizer adafactor"},
      {{{"update_clip", 1.0}}, "update_clip", "optimizer adafactor"},
      {{{"smallest_scale", 0.1}}, "smallest_scale", "optimizer adafactor"},
      {{{"weight_decay", 0.0}, {"decay_embeddings", false}}, "decay_embeddings", "weight_decay above 0"},
      {{{"optimizer", "sgd"}, {"decay_vectors", true}}, "decay_vectors", "weight_decay above 0"},
      {{{"decay_fraction", 0.1}}, "decay_fraction", "schedule wsd"},
      {{{"decay_every", 10}}, "decay_every", "schedule step"},
      {{{"decay_factor", 0.5}}, "decay_factor", "schedule step"},
      {{{"initial_learning_rate", 0.5}}, "initial_learning_rate", "schedule one_cycle"},
      {{{"schedule", "one_cycle"}, {"warmup_steps", 1}, {"initial_learning_rate", 0.5}},
       "initial_learning_rate",
       "schedule one_cycle, and warmup_steps above 1"},
      {{{"schedule", "one_cycle"}, {"steps", 6}, {"initial_learning_rate", 0.5}},  // three tenths of 6 are 1
       "initial_learning_rate",
       "schedule one_cycle, and warmup_steps above 1"},
      {{{"schedule", "constant"}, {"final_learning_rate", 0.1}}, "final_learning_rate", "schedule linear, cosine, wsd"},
      {{{"steps", 20}, {"warmup_steps", 20}, {"final_learning_rate", 0.3}},
       "final_learning_rate",
       "schedule linear, cosine, wsd or one_cycle, and warmup_steps below steps"},
      {{{"float32_projections", true}}, "float32_projections", "dtype bfloat16 or float16"},
      {{{"float32_attention", false}}, "float32_attention", "dtype bfloat16 or float16"},
      {{{"dtype", "float64"}, {"float32_feed_forward", true}}, "float32_feed_forward", "dtype bfloat16 or float16"},
      {{{"float32_head", true}}, "float32_head", "dtype bfloat16 or float16"},
      {{{"deterministic", true}}, "deterministic", "device cuda"},
      {{{"cuda_graph", true}}, "cuda_graph", "device cuda"},
      {{{"dtype", "bfloat16"}, {"loss_scale", 8.0}}, "loss_scale", "dtype float16"},
      {{{"loss_scale_growth_every", 100}}, "loss_scale_growth_every", "dtype float16"},
      {{{"most_recoveries", 2}}, "most_recoveries", "on_divergence skip or roll_back"},
      {{{"on_divergence", "skip"}, {"roll_back_factor", 0.1}}, "roll_back_factor", "on_divergence roll_back"},
      {{{"clip", "value"}, {"clip_norm", 1.0}}, "clip_norm", "clip global_norm or per_layer_norm"},
      {{{"clip_value", 1.0}}, "clip_value", "clip value"},
      {{{"clip", "per_layer_norm"}, {"clip_norm", 0.0}}, "clip", "a limit (clip_norm or clip_value) above 0"},
  };
  std::set<std::string> covered, conditional;
  for (const auto& [json, refused, words] : cases) {
    INFO(json.dump());
    const auto problems = training_problems(json);
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].path == join_path("train", refused));
    CHECK_THAT(problems[0].message, ContainsSubstring(std::string("only with ") + words));
    covered.insert(refused);
  }
  for (const auto& field : TrainOptions::fields())
    if (field.in_effect) conditional.insert(field.name);
  CHECK(covered == conditional);
}

TEST_CASE("train options: every choice of optimizer, schedule and clip writes what acts, and reads that back") {
  const auto acting = [](const char* name) {
    for (const auto& field : TrainOptions::fields())
      if (field.name == name) return field.choices;
    return std::vector<std::string>();
  };
  for (const auto* option : {"optimizer", "schedule", "clip"}) {
    REQUIRE(acting(option).size() >= 3);
    for (const auto& choice : acting(option)) {
      INFO(option << " " << choice);
      const auto json = written_back({{option, choice}});
      CHECK(json[option] == choice);
      CHECK(training_problems(json).empty());
      CHECK(written_back(json) == json);
    }
  }
  CHECK_FALSE(written_back({{"schedule", "one_cycle"}, {"warmup_steps", 0}}).contains("initial_learning_rate"));
  CHECK(written_back({{"schedule", "one_cycle"}, {"warmup_steps", 2}}).contains("initial_learning_rate"));
  CHECK_FALSE(written_back({{"steps", 9}, {"warmup_steps", 9}}).contains("final_learning_rate"));
  CHECK(written_back({{"steps", 9}, {"warmup_steps", 8}}).contains("final_learning_rate"));
  CHECK_FALSE(written_back({{"optimizer", "sgd"}}).contains("beta1"));
  CHECK(written_back({{"optimizer", "sgd"}})["weight_decay"] == 0.0);
  CHECK(written_back({{"optimizer", "lion"}})["beta2"] == 0.99);
  CHECK(written_back({{"optimizer", "muon"}})["momentum"] == 0.95);
  CHECK_FALSE(written_back({{"clip_norm", 0}}).contains("clip"));
}

TEST_CASE("train options: what does not fit together is refused with numbers") {
  const auto told = [](const Json& json, const std::string& path, const std::string& words) {
    const auto problems = training_problems(json);
    return problems.size() == 1 && problems[0].path == path && problems[0].message.find(words) != std::string::npos;
  };
  CHECK(told({{"steps", 20}, {"warmup_steps", 21}}, "warmup_steps", "21 steps in a run of 20"));
  CHECK(training_problems({{"warmup_steps", 7}, {"warmup_tokens", 100}}).empty());  // 16 windows of one token
  CHECK(told({{"warmup_steps", 8}, {"warmup_tokens", 100}}, "warmup_tokens",
             "100 tokens take 7 steps, not warmup_steps 8; leave one"));
  CHECK(told({{"steps", 20}, {"warmup_tokens", 321}}, "warmup_steps", "21 steps in a run of 20"));
  CHECK(told({{"batch_size", 6}, {"initial_batch_size", 6}}, "initial_batch_size", "below batch_size 6"));
  CHECK(told({{"batch_size", 6}, {"accumulate", 3}, {"initial_batch_size", 2}}, "initial_batch_size",
             "a multiple of accumulate 3"));
  CHECK(training_problems({{"batch_size", 6}, {"accumulate", 3}, {"initial_batch_size", 3}}).empty());
  CHECK(told({{"schedule", "schedule_free"}, {"optimizer", "lion"}}, "schedule", "adamw and sgd, not of lion"));
  CHECK(told({{"schedule", "schedule_free"}, {"beta1", 0.0}}, "beta1", "another number above 0"));
  CHECK(told({{"schedule", "schedule_free"}, {"optimizer", "sgd"}, {"momentum", 0.0}}, "momentum", "above 0"));
  CHECK(training_problems({{"schedule", "schedule_free"}, {"optimizer", "sgd"}}).empty());
  CHECK(told({{"batch_size", 6}, {"accumulate", 4}}, "accumulate", "4 passes do not divide the 6 windows"));
  CHECK(training_problems({{"batch_size", 6}, {"accumulate", 3}}).empty());
  CHECK(told({{"steps", 20}, {"schedule", "wsd"}, {"warmup_steps", 11}, {"decay_fraction", 0.5}}, "decay_fraction",
             "the last 10 of 20 steps begin before the warm-up of 11 ends"));
  CHECK(training_problems({{"steps", 10}, {"schedule", "wsd"}, {"warmup_steps", 1}, {"decay_fraction", 0.9}}).empty());
  CHECK(told({{"steps", 20}, {"schedule", "step"}, {"warmup_steps", 5}, {"decay_every", 15}}, "decay_every",
             "expected at most 14"));
  CHECK(training_problems({{"steps", 20}, {"schedule", "step"}, {"warmup_steps", 5}, {"decay_every", 14}}).empty());
}

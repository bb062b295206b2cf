// What the options of `train` do to a whole run: each changes its id and its numbers, each choice resumes to the same
// bits, and an average of the weights is what is evaluated.

#include <cmath>
#include <map>

#include <catch2/catch_test_macros.hpp>

#include "core/files.h"
#include "core/hash.h"
#include "data/registry.h"
#include "scratch_folder.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/run_of.h"
#include "train/trained_model.h"
#include "train/trainer.h"

using namespace attnscale;

namespace {

RunConfig short_run(const Json& train = Json::object()) {
  auto json = Json::parse(R"({
    "model": {"depth": 1, "model_dim": 16, "num_heads": 2, "dropout": 0.2},
    "data": {"source": "zipf_memory", "context": 7, "num_keys": 10, "num_labels": 4},
    "train": {"steps": 20, "batch_size": 4, "eval_every": 5, "eval_tokens": 200, "checkpoint_every": 0}})");
  json["train"].update(train);
  return run_of(json, Json::object());
}

std::vector<std::string> choices_of(const std::string& option) {
  for (const auto& field : TrainOptions::fields())
    if (field.name == option) return field.choices;
  return {};
}

/// What a run wrote down, step by step.
std::string log_of(const RunConfig& config, const std::filesystem::path& folder) {
  REQUIRE(train_run(config, {folder, {}, {}})["status"] == "done");
  return read_file(folder / "log.jsonl");
}

void check_resumes(const Json& train) {
  INFO(train.dump());
  const ScratchFolder scratch;
  const auto config = short_run(train);
  const auto whole = log_of(config, scratch / "whole");
  const auto stop_after = [&](int steps) {
    return train_run(config, {scratch / "parts", {}, [steps]() mutable { return --steps == 0; }})["status"];
  };
  CHECK(stop_after(7) == "interrupted");
  CHECK(stop_after(6) == "interrupted");
  CHECK(log_of(config, scratch / "parts") == whole);
  std::vector<std::string> files = {"model.safetensors", "optimizer.safetensors"};
  const bool averaged = train.contains("ema_decay") || train.value("schedule", "") == "schedule_free";
  if (averaged) files.push_back("average.safetensors");
  for (const auto& name : files)
    CHECK(sha256_of_file(scratch / "whole/checkpoint/step-20" / name) ==
          sha256_of_file(scratch / "parts/checkpoint/step-20" / name));
}

}  // namespace

TEST_CASE("train options: a run stopped twice ends with the bits of an undisturbed one, whatever optimises it") {
  for (const auto& optimizer : choices_of("optimizer")) {
    check_resumes({{"optimizer", optimizer}, {"learning_rate", 1e-3}});
    check_resumes({{"optimizer", optimizer}, {"learning_rate", 1e-3}, {"dtype", "bfloat16"}, {"ema_decay", 0.9}});
  }
  for (const auto& schedule : choices_of("schedule")) check_resumes({{"schedule", schedule}, {"accumulate", 2}});
  check_resumes({{"schedule", "schedule_free"}, {"optimizer", "sgd"}, {"on_divergence", "roll_back"}});
}

TEST_CASE("train options: a run whose batches and windows grow resumes to the same bits") {
  check_resumes({{"initial_batch_size", 2}, {"initial_context", 3}, {"ramp_fraction", 0.7}, {"accumulate", 2}});
}

TEST_CASE("train options: a run that is watched and computes its blocks again resumes to the same bits") {
  check_resumes({{"watch_every", 3}, {"accumulate", 2}, {"activation_checkpointing", true}});
}

TEST_CASE("train options: every one changes the run's id, and the numbers of the run") {
  struct Change {
    Json value;
    Json beside = Json::object();
  };
  const std::map<std::string, Change> changes = {
      {"steps", {21}},
      {"batch_size", {5}},
      {"accumulate", {2}},
      {"initial_batch_size", {2}},
      {"initial_context", {3}},
      {"ramp_fraction", {0.6, {{"initial_batch_size", 2}}}},
      {"activation_checkpointing", {true}},  // its FLOPs
      {"learning_rate", {0.01}},
      {"schedule", {"linear"}},
      {"warmup_steps", {7}},
      {"warmup_tokens", {28 * 7}},
      {"initial_learning_rate", {0.3, {{"schedule", "one_cycle"}}}},
      {"final_learning_rate", {0.3}},
      {"decay_fraction", {0.5, {{"schedule", "wsd"}}}},
      {"decay_every", {3, {{"schedule", "step"}}}},
      {"decay_factor", {0.5, {{"schedule", "step"}}}},
      {"optimizer", {"adam"}},
      {"beta1", {0.8}},
      {"beta2", {0.9}},
      {"epsilon", {1e-5}},
      {"momentum", {0.8, {{"optimizer", "sgd"}}}},
      {"nesterov", {true, {{"optimizer", "sgd"}}}},
      {"newton_schulz_steps", {3, {{"optimizer", "muon"}}}},
      {"decay_exponent", {0.5, {{"optimizer", "adafactor"}}}},
      {"update_clip", {0.5, {{"optimizer", "adafactor"}}}},
      {"smallest_scale", {0.5, {{"optimizer", "adafactor"}}}},
      {"weight_decay", {0.5}},
      {"decay_embeddings", {false}},
      {"decay_vectors", {true}},
      {"embedding_rate", {0.5}},
      {"vector_rate", {2.0}},
      {"clip", {"per_layer_norm", {{"clip_norm", 0.1}}}},
      {"clip_norm", {0.1}},
      {"clip_value", {1e-3, {{"clip", "value"}}}},
      {"label_smoothing", {0.1}},
      {"z_loss", {0.1}},
      {"ema_decay", {0.9}},
      {"dtype", {"float64"}},
      {"float32_projections", {true, {{"dtype", "bfloat16"}}}},
      {"float32_attention", {true, {{"dtype", "bfloat16"}}}},
      {"float32_feed_forward", {true, {{"dtype", "bfloat16"}}}},
      {"float32_head", {true, {{"dtype", "bfloat16"}}}},
      {"loss_scale", {0x1p40, {{"dtype", "float16"}}}},
      {"loss_scale_growth_every", {1, {{"dtype", "float16"}}}},
      {"seed", {1}},
      {"watch_every", {5}},
      {"eval_every", {4}},
      {"eval_tokens", {400}},
      {"eval_training_tokens", {100}},
  };
  // Where a run takes place, what it keeps and how often it is saved do not change the numbers of a run that does not
  // diverge; what it does when it diverges (and then goes back to what was saved), divergence_test shows. Learned
  // positions have no longer context: evaluate_elsewhere_test has others.
  const std::set<std::string> same = {"device",        "checkpoint_every", "activation_checkpointing",
                                      "on_divergence", "most_recoveries",  "roll_back_factor",
                                      "eval_context",  "deterministic",    "cuda_graph"};
  const ScratchFolder scratch;
  std::map<std::string, std::string> logs;
  const auto log_for = [&](const RunConfig& config) {
    auto& log = logs[config.id()];
    if (log.empty()) log = log_of(config, scratch / config.id());
    return log;
  };
  for (const auto& field : TrainOptions::fields()) {
    if (same.contains(field.name)) continue;
    INFO(field.name);
    REQUIRE(changes.contains(field.name));
    const auto& [value, beside] = changes.at(field.name);
    auto changed = beside;
    changed[field.name] = value;
    const auto before = short_run(beside), after = short_run(changed);
    CHECK(before.id() != after.id());
    CHECK(log_for(before) != log_for(after));
  }
}

TEST_CASE("train options: each choice of an optimizer, a schedule and a clipping is a run of its own that learns") {
  const ScratchFolder scratch;
  for (const auto* option : {"optimizer", "schedule", "clip"}) {
    std::set<std::string> logs;
    for (const auto& choice : choices_of(option)) {
      INFO(option << " " << choice);
      Json train = {{option, choice}, {"steps", 60}, {"learning_rate", choice == "sgd" ? 0.3 : 0.01}};
      if (choice == "value") train["clip_value"] = 0.01;
      const auto config = short_run(train);
      CHECK(logs.insert(log_of(config, scratch / config.id())).second);
      const auto row = read_json(scratch / config.id() / "result.json").value;
      CHECK(row["loss"].get<double>() < std::log(14.0) - 0.1);  // better than a uniform guess
    }
  }
}

TEST_CASE("train options: with an average of the weights it is what is evaluated and loaded, and the last are kept") {
  const ScratchFolder scratch;
  const auto config = short_run({{"ema_decay", 0.8}});
  const auto row = train_run(config, {scratch.path, {}, {}});
  const auto trained = load_trained_model(scratch.path);
  const auto of_average = validation_set(config)->evaluate(*trained.model, "float32");
  CHECK(of_average.loss == row["loss"].get<double>());
  const auto checkpoint = read_checkpoint(scratch / "checkpoint");
  copy_tensors(checkpoint->model, tensors_of(*trained.model));
  CHECK(validation_set(config)->evaluate(*trained.model, "float32").loss != row["loss"].get<double>());

  // Schedule-free's average is the optimiser's own.
  const auto free = short_run({{"schedule", "schedule_free"}});
  const auto free_row = train_run(free, {scratch / "free", {}, {}});
  const auto free_trained = load_trained_model(scratch / "free");
  CHECK(validation_set(free)->evaluate(*free_trained.model, "float32").loss == free_row["loss"].get<double>());
  copy_tensors(read_checkpoint(scratch / "free/checkpoint")->model, tensors_of(*free_trained.model));
  CHECK(validation_set(free)->evaluate(*free_trained.model, "float32").loss != free_row["loss"].get<double>());

  // Without an average nothing of it is written.
  train_run(short_run(), {scratch / "without", {}, {}});
  CHECK(read_checkpoint(scratch / "without/checkpoint")->average.empty());
  CHECK_FALSE(std::filesystem::exists(scratch / "without/checkpoint/step-20/average.safetensors"));
}

TEST_CASE("train options: memory is estimated for what one pass holds and what the optimiser keeps") {
  const auto bytes = [](const Json& train = Json::object()) {
    const auto config = short_run(train);
    return training_bytes(config.train, cost_of(config));
  };
  const auto config = short_run();
  const auto parameters = static_cast<double>(cost_of(config).parameters.total);
  CHECK(bytes() - bytes({{"optimizer", "lion"}}) == 4 * parameters);
  CHECK(bytes() - bytes({{"optimizer", "adafactor"}}) == 8 * parameters);
  CHECK(bytes() == bytes({{"schedule", "schedule_free"}}));
  CHECK(bytes({{"ema_decay", 0.5}}) - bytes() == 4 * parameters);
  CHECK(bytes({{"accumulate", 4}}) - 16 * parameters == (bytes() - 16 * parameters) / 4);
}

#include "train/evaluate_elsewhere.h"

#include <algorithm>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "scratch_folder.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/trained_model.h"
#include "train/trainer.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

Json run_json(const std::string& position, const Json& train = Json::object()) {
  auto json = Json::parse(R"({
    "model": {"depth": 1, "model_dim": 16, "num_heads": 2},
    "data": {"source": "text", "context": 6},
    "train": {"steps": 60, "batch_size": 8, "eval_every": 30, "eval_tokens": 120, "learning_rate": 0.01}})");
  json["model"]["position"] = position;
  json["train"].update(train);
  return json;
}

/// A text of which the trained part repeats and the rest does not.
void write_text(const std::filesystem::path& file) {
  std::string text;
  for (int i = 0; i < 450; ++i) text += "abcdefghij";
  for (int i = 0; i < 500; ++i) text += static_cast<char>('a' + (i * i + i / 7) % 10);
  write_file_atomically(file, text);
}

std::vector<Problem> problems_of(Json json, const std::filesystem::path& text, std::optional<RunConfig>& config) {
  json["data"]["path"] = text.string();
  std::vector<Problem> problems;
  config = RunConfig::from_json(json, problems);
  return problems;
}

RunConfig config_of(const Json& json, const std::filesystem::path& text) {
  std::optional<RunConfig> config;
  for (const auto& problem : problems_of(json, text, config)) FAIL(problem.path << ": " << problem.message);
  return *config;
}

}  // namespace

TEST_CASE("evaluate elsewhere: a model that repeats what it was trained on has a gap to what it was not") {
  const ScratchFolder scratch;
  write_text(scratch / "text");
  const auto config = config_of(run_json("rotary", {{"eval_training_tokens", 240}}), scratch / "text");
  const auto row = train_run(config, {.folder = scratch / "run"});
  CHECK(row["training_loss"].get<double>() < 0.3);  // ten letters in turn: the first of a window tells all
  CHECK(row["loss"].get<double>() > row["training_loss"].get<double>() + 1);
  CHECK_FALSE(row.contains("longer"));
  // The set is the same for all runs, and none of the validation set.
  const auto trained = load_trained_model(scratch / "run");
  const ValidationSet again(*config.open_source(), 6, 240, config.model, Split::train);
  CHECK(again.evaluate(*trained.model, "float32").loss == row["training_loss"].get<double>());
}

TEST_CASE("evaluate elsewhere: longer windows begin as the short ones do, and go on with the same weights") {
  const ScratchFolder scratch;
  write_text(scratch / "text");
  for (const std::string position : {"sinusoidal", "rotary", "alibi", "relative", "none"}) {
    INFO(position);
    const auto config = config_of(run_json(position, {{"eval_context", 24}}), scratch / "text");
    const auto row = train_run(config, {.folder = scratch / position});
    const auto& longer = row["longer"];
    CHECK(longer["context"] == 24);
    CHECK(longer["positions"]["loss"].size() == 24);
    // By hand: a model with room for 24 positions, on one window of its validation set.
    Transformer model(config.model, config.attention, 24, 5);
    const auto trained = load_trained_model(scratch / position);
    copy_tensors(tensors_of(*trained.model), tensors_of(model));
    const ValidationSet windows(*config.open_source(), 24, 120, config.model);
    CHECK(longer["loss"].get<double>() == windows.evaluate(model, "float32").loss);
    // The first six of each long window, by the model with room for six.
    const auto batch = config.open_source()->batch(Split::validation, 0, 0, 1, 24);
    const auto tokens = questions_of(batch, config.model, 0).inputs;
    const torch::NoGradGuard guard;
    model.eval(), trained.model->eval();
    const auto whole = model.forward(tokens), begun = trained.model->forward(tokens.narrow(1, 0, 6));
    CHECK(at::allclose(whole.narrow(1, 0, 6), begun, 1e-4, 1e-5));
  }
}

TEST_CASE("evaluate elsewhere: a longer context that cannot be is refused with the reason") {
  const ScratchFolder scratch;
  write_text(scratch / "text");
  std::optional<RunConfig> config;
  const auto refused = [&](const Json& json, const std::string& words) {
    const auto problems = problems_of(json, scratch / "text", config);
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].path == "train.eval_context");
    CHECK_THAT(problems[0].message, ContainsSubstring(words));
  };
  refused(run_json("learned", {{"eval_context", 24}}), "parameters for each position");
  refused(run_json("rotary", {{"eval_context", 6}}), "6 is not longer than data.context 6");
  auto masked = run_json("rotary", {{"eval_context", 24}});
  masked["model"]["head"] = "masked_token";
  refused(masked, "for model.head \"next_token\"");
  const auto problems =
      problems_of(run_json("rotary", {{"eval_context", 24}, {"eval_tokens", 90}}), scratch / "text", config);
  CHECK(problems.empty());
  const auto few =
      problems_of(run_json("rotary", {{"eval_context", 90}, {"eval_tokens", 480}}), scratch / "text", config);
  REQUIRE(few.size() == 1);
  CHECK(few[0].path == "train.eval_tokens");
}

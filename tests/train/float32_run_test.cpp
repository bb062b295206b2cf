// Runs some of whose products stay float32 under mixed precision.

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "attention/registry.h"
#include "scratch_folder.h"
#include "tensor/kernels/kernels.h"
#include "train/evaluate.h"
#include "train/run_of.h"
#include "train/trained_model.h"
#include "train/trainer.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

Json run_with(const std::string& variant, const Json& train) {
  auto json = Json::parse(R"({
    "model": {"depth": 1, "model_dim": 16, "num_heads": 2, "position": "none"},
    "data": {"source": "zipf_memory", "context": 8, "num_keys": 10, "num_labels": 4},
    "train": {"steps": 12, "batch_size": 4, "eval_tokens": 200, "dtype": "bfloat16"}})");
  json["attention"]["variant"] = variant;
  json["train"].update(train);
  return json;
}

std::string refusal(const std::string& variant, const Json& train) {
  std::vector<Problem> problems;
  RunConfig::from_json(run_with(variant, train), problems);
  return problems.empty() ? "" : problems[0].path + ": " + problems[0].message;
}

}  // namespace

TEST_CASE("float32 run: what was trained and what is loaded keep the same parts in float32") {
  for (const auto* part : {"float32_projections", "float32_attention", "float32_feed_forward", "float32_head"}) {
    INFO(part);
    const ScratchFolder scratch;
    const auto config = run_of(run_with("softmax", {{part, true}}), Json::object());
    const auto row = train_run(config, {scratch.path, {}, {}});
    const auto trained = load_trained_model(scratch.path);
    const auto set = validation_set(config);
    CHECK(set->evaluate(*trained.model, "bfloat16").loss == row["loss"].get<double>());
    trained.model->keep_float32({});
    CHECK(set->evaluate(*trained.model, "bfloat16").loss != row["loss"].get<double>());
  }
}

TEST_CASE("float32 run: a part that is float32 anyway, or that there is not, is refused") {
  CHECK_THAT(refusal("strided", {{"float32_attention", true}}),
             ContainsSubstring("train.float32_attention: strided sums in float32 as it is; leave it out, or set "
                               "train.float32_projections too"));
  CHECK_THAT(refusal("linear", {{"float32_attention", true}, {"dtype", "float16"}}),
             ContainsSubstring("linear sums in float32 as it is"));
  CHECK(refusal("strided", {{"float32_attention", true}, {"float32_projections", true}}).empty());
  CHECK(refusal("softmax", {{"float32_attention", true}}).empty());
  CHECK_THAT(refusal("latent", {{"float32_projections", true}}),
             ContainsSubstring("train.float32_projections: latent makes its own projections, which float32_attention "
                               "means too"));
  CHECK(refusal("latent", {{"float32_attention", true}}).empty());
}

TEST_CASE("float32 run: what is refused does not depend on the processor's kernels") {
  const KernelsAsBefore as_before;
  int accepted = 0, refused = 0;
  for (const auto& variant : all_variants())
    for (const auto* dtype : {"bfloat16", "float16"}) {
      const auto said = [&](bool kernels) {
        set_kernels(kernels);
        std::vector<Problem> problems;
        RunConfig::from_json(run_with(variant.name, {{"float32_attention", true}, {"dtype", dtype}}), problems);
        std::string text;
        for (const auto& [path, message] : problems) text += path + ": " + message + "\n";
        return text;
      };
      INFO(variant.name << " " << dtype);
      const auto with = said(true);
      CHECK(said(false) == with);
      ++(with.empty() ? accepted : refused);
    }
  CHECK(accepted > 0);
  CHECK(refused > 0);
}

TEST_CASE("float32 run: a linear form that was trained by kernels is loaded without them") {
  const KernelsAsBefore as_before;
  const ScratchFolder scratch;
  train_run(run_of(run_with("linear", {{"float32_attention", true}}), Json::object()), {scratch.path, {}, {}});
  set_kernels(false);
  CHECK(load_trained_model(scratch.path).model != nullptr);
}

TEST_CASE("float32 run: false is what is not said") {
  CHECK(run_of(run_with("softmax", {{"float32_head", false}}), Json::object()).id() ==
        run_of(run_with("softmax", Json::object()), Json::object()).id());
}

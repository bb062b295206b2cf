#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "core/hash.h"
#include "run_of.h"
#include "scratch_folder.h"
#include "tensor/kernels/kernels.h"
#include "train/stepper.h"
#include "train/trainer.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

RunConfig small_run(const Json& changes) {
  auto json = Json::parse(R"({
    "model": {"depth": 1, "model_dim": 16, "num_heads": 2},
    "data": {"source": "zipf_memory", "context": 7, "num_keys": 10, "num_labels": 4},
    "train": {"steps": 20, "batch_size": 3, "warmup_steps": 0, "eval_every": 20, "eval_tokens": 100,
              "checkpoint_every": 4, "learning_rate": 0.01}})");
  return run_of(std::move(json), changes);
}

const auto quiet = [](const std::string&) {};

Json train(const RunConfig& config, const std::filesystem::path& folder) {
  return train_run(config, {.folder = folder, .on_note = quiet});
}

Json train_some(const RunConfig& config, const std::filesystem::path& folder, int steps) {
  return train_run(config, {.folder = folder, .stop = [steps]() mutable { return --steps == 0; }, .on_note = quiet});
}

void check_same_run(const std::filesystem::path& a, const std::filesystem::path& b) {
  CHECK(read_file(a / "log.jsonl") == read_file(b / "log.jsonl"));
  CHECK(sha256_of_file(a / "checkpoint/step-20/model.safetensors") ==
        sha256_of_file(b / "checkpoint/step-20/model.safetensors"));
  CHECK(sha256_of_file(a / "checkpoint/step-20/optimizer.safetensors") ==
        sha256_of_file(b / "checkpoint/step-20/optimizer.safetensors"));
}

}  // namespace

TEST_CASE("divergence: float16 with a loss scale too large backs off, leaves those steps out, and learns") {
  const ScratchFolder scratch;
  const auto config = small_run({{"train.dtype", "float16"}, {"train.loss_scale", 0x1p40}});
  const auto row = train(config, scratch / "whole");
  REQUIRE(row["status"] == "done");
  const auto skipped = row["skipped_steps"].get<int64_t>();
  CHECK(skipped > 0);
  CHECK(skipped < 40);
  const auto first =
      Json::parse(read_file(scratch / "whole/log.jsonl").substr(0, read_file(scratch / "whole/log.jsonl").find('\n')));
  CHECK(first["skipped"] == true);
  CHECK(first["loss_scale"] == 0x1p40);
  // The counts of updates and of steps differ from here on; a resumed run has to know both.
  CHECK(train_some(config, scratch / "parts", 18)["status"] == "interrupted");
  CHECK(train(config, scratch / "parts")["skipped_steps"] == skipped);
  check_same_run(scratch / "whole", scratch / "parts");
}

TEST_CASE("divergence: float16 gradients are those of float32 to the rounding of 16 bits") {
  const ScratchFolder scratch;
  const auto loss = [&](const char* dtype) {
    const auto row = train(small_run({{"train.dtype", dtype}}), scratch / dtype);
    CHECK(row["status"] == "done");
    return row["loss"].get<double>();
  };
  const double exact = loss("float32");
  CHECK(std::abs(loss("float16") / exact - 1) < 0.005);
  CHECK(std::abs(loss("bfloat16") / exact - 1) < 0.005);
}

TEST_CASE("divergence: a float16 run at a rate far too high names step, cause and the last good checkpoint") {
  const ScratchFolder scratch;
  const auto row =
      train(small_run({{"train.dtype", "float16"}, {"train.learning_rate", 1000.0}, {"train.checkpoint_every", 1}}),
            scratch / "run");
  REQUIRE(row["status"] == "diverged");
  CHECK(row["diverged_at"].get<int64_t>() >= 2);
  CHECK_THAT(row["message"].get<std::string>(), ContainsSubstring("not finite"));
  CHECK(row["last_checkpoint"] == "checkpoint/step-" + std::to_string(row["diverged_at"].get<int64_t>() - 1));
  CHECK(std::filesystem::exists(scratch / "run" / row["last_checkpoint"].get<std::string>() / "model.safetensors"));
}

TEST_CASE("divergence: rolling back lowers the rate until the run goes on, and a resumed run does the same") {
  const ScratchFolder scratch;
  const auto config = small_run({{"train.learning_rate", 1e30},
                                 {"train.on_divergence", "roll_back"},
                                 {"train.roll_back_factor", 1e-20},
                                 {"train.most_recoveries", 2}});
  const auto row = train(config, scratch / "whole");
  REQUIRE(row["status"] == "done");
  CHECK(row["roll_backs"] == 2);
  CHECK(row["steps"] == 20);
  CHECK_THAT(row["provenance"]["notes"][0].get<std::string>(), ContainsSubstring("going on from step 0 with 1e-20"));
  CHECK(train_some(config, scratch / "parts", 9)["status"] == "interrupted");
  CHECK(train(config, scratch / "parts")["roll_backs"] == 2);
  check_same_run(scratch / "whole", scratch / "parts");

  // Interrupted between the checkpoint and the divergence, when the weights are ruined already.
  CHECK(train_some(config, scratch / "ruined", 1)["status"] == "interrupted");
  CHECK(train(config, scratch / "ruined")["roll_backs"] == 2);
  check_same_run(scratch / "whole", scratch / "ruined");
  CHECK_FALSE(std::filesystem::exists(scratch / "whole/roll_back"));

  const auto once = small_run({{"train.learning_rate", 1e30},
                               {"train.on_divergence", "roll_back"},
                               {"train.roll_back_factor", 1e-20},
                               {"train.most_recoveries", 1}});
  const auto ended = train(once, scratch / "once");
  CHECK(ended["status"] == "diverged");
  CHECK(ended["roll_backs"] == 1);
  CHECK_FALSE(std::filesystem::exists(scratch / "once/roll_back"));
}

TEST_CASE("divergence: skipping leaves the weights alone, and ends the run after so many steps") {
  const ScratchFolder scratch;
  // The first update makes the weights useless, so that every later step is left out.
  const auto row =
      train(small_run({{"train.learning_rate", 1e30}, {"train.on_divergence", "skip"}, {"train.most_recoveries", 5}}),
            scratch / "run");
  CHECK(row["status"] == "diverged");
  CHECK(row["skipped_steps"] == 5);
  CHECK(row["provenance"]["notes"].size() == 5);
}

TEST_CASE("divergence: a weight that is not finite is named as the cause") {
  auto model_options = resolved(ModelOptions{.depth = 1, .model_dim = 8, .num_heads = 1}, 5);
  Transformer model(model_options, {}, 4, 0);
  const auto train_options = resolved(TrainOptions{});
  Stepper stepper(model, train_options);
  {
    const torch::NoGradGuard off;
    model.named_parameters()["blocks.0.feed_forward.down.weight"].fill_(std::numeric_limits<double>::infinity());
  }
  const auto tokens = torch::zeros({2, 4}, torch::kInt64);
  const auto result = stepper.step({tokens, tokens}, 1);
  CHECK_FALSE(result.finite);
  CHECK(result.cause == "the loss is not finite, and neither is blocks.0.feed_forward.down.weight");
}

TEST_CASE("divergence: a gradient that is not finite is named, though the loss is") {
  auto model_options = resolved(ModelOptions{.depth = 1, .model_dim = 8, .num_heads = 1, .tie_embeddings = false}, 5);
  Transformer model(model_options, {}, 4, 0);
  Stepper stepper(model, resolved(TrainOptions{}));
  {
    // The stream leaves the last norm at 1e-37 and meets weights of 1e38: logits of about 10, gradients beyond float32.
    const torch::NoGradGuard off;
    auto parameters = model.named_parameters();
    parameters["final_norm.weight"].fill_(1e-37);
    parameters["head.weight"].sign_().mul_(3.3e38);
  }
  const auto tokens = torch::arange(8).remainder(5).reshape({2, 4});
  const auto result = stepper.step({tokens, tokens}, 1);
  CHECK(std::isfinite(result.loss));
  CHECK_FALSE(result.finite);
  CHECK_THAT(result.cause, ContainsSubstring("the gradient of ") && ContainsSubstring(" is not finite"));
}

TEST_CASE("divergence: a run goes back to the last checkpoint that was due, and an interrupted one as far") {
  const ScratchFolder scratch;
  const KernelsAsBefore as_before;
  set_kernels(false);  // where numbers overflow is a matter of operators
  // Plain descent that overflows after some steps, not at the first.
  const Json steep = {{"train.optimizer", "sgd"},       {"train.learning_rate", 3000.0},
                      {"train.clip_norm", 0},           {"train.on_divergence", "roll_back"},
                      {"train.roll_back_factor", 1e-6}, {"train.checkpoint_every", 2},
                      {"train.most_recoveries", 1}};
  const auto config = small_run(steep);
  const auto row = train(config, scratch / "whole");
  REQUIRE(row["status"] == "done");
  CHECK(row["roll_backs"] == 1);
  const auto note = row["provenance"]["notes"][0].get<std::string>();
  INFO(note);
  CHECK_THAT(note, ContainsSubstring("going on from step ") && !ContainsSubstring("going on from step 0 "));
  for (const int steps : {1, 2, 3, 4, 5, 6, 7}) {
    const auto parts = scratch / std::to_string(steps);
    CHECK(train_some(config, parts, steps)["status"] == "interrupted");
    CHECK(train(config, parts)["roll_backs"] == 1);
    check_same_run(scratch / "whole", parts);
  }
}

TEST_CASE("divergence: without its place to go back to, a run says what to do, and does not end as diverged") {
  const ScratchFolder scratch;
  const auto config = small_run(
      {{"train.learning_rate", 1e30}, {"train.on_divergence", "roll_back"}, {"train.roll_back_factor", 1e-20}});
  CHECK(train_some(config, scratch / "run", 1)["status"] == "interrupted");
  SECTION("missing") { std::filesystem::remove_all(scratch / "run/roll_back"); }
  SECTION("damaged") { std::filesystem::resize_file(scratch / "run/roll_back/step-0/model.safetensors", 5); }
  CHECK_THROWS_WITH(train(config, scratch / "run"),
                    ContainsSubstring("roll_back") &&
                        ContainsSubstring("remove " + (scratch / "run").string() + " to do this run anew"));
}

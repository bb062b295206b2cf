#include "train/trainer.h"

#include <cmath>

#include <ATen/Context.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "data/registry.h"
#include "run_of.h"
#include "scratch_folder.h"
#include "tensor/kernels/kernels.h"
#include "train/checkpoint.h"
#include "train/provenance.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

RunConfig small_run(const Json& changes = Json::object()) {
  auto json = Json::parse(R"({
    "model": {"depth": 2, "model_dim": 16, "num_heads": 2, "dropout": 0.2, "stochastic_depth": 0.2},
    "data": {"source": "zipf_memory", "context": 7, "num_keys": 10, "num_labels": 4},
    "train": {"steps": 30, "batch_size": 3, "warmup_steps": 5, "eval_every": 10, "eval_tokens": 500,
              "checkpoint_every": 8, "learning_rate": 0.01}})");
  return run_of(std::move(json), changes);
}

Json train(const RunConfig& config, const std::filesystem::path& folder) { return train_run(config, {folder, {}, {}}); }

/// Trains until the stop comes after `steps` more steps.
Json train_some(const RunConfig& config, const std::filesystem::path& folder, int steps) {
  return train_run(config, {folder, {}, [steps]() mutable { return --steps == 0; }});
}

void check_same_run(const std::filesystem::path& a, const std::filesystem::path& b) {
  CHECK(read_file(a / "log.jsonl") == read_file(b / "log.jsonl"));
  for (const auto* name : {"model.safetensors", "optimizer.safetensors"})
    CHECK(sha256_of_file(a / "checkpoint/step-30" / name) == sha256_of_file(b / "checkpoint/step-30" / name));
  auto first = read_json(a / "result.json").value, second = read_json(b / "result.json").value;
  for (auto* row : {&first, &second}) {
    row->erase("timing");
    row->erase("provenance");
  }
  CHECK(first == second);
}

/// No null and no number that JSON cannot hold, at any depth.
bool all_finite(const Json& value) {
  if (value.is_null()) return false;
  if (value.is_number_float()) return std::isfinite(value.get<double>());
  for (const auto& child : value)
    if (value.is_structured() && !all_finite(child)) return false;
  return true;
}

/// Uniform tokens; the fourth training batch asks for more memory than there is, until it is told not to.
class Hungry final : public Source {
 public:
  struct Options {
    static const Fields& fields() {
      static const Fields none;
      return none;
    }
  };
  explicit Hungry(const Options&) {}
  inline static bool hungry = true;

  int64_t vocab_size() const override { return 4; }
  Batch batch(Split split, uint64_t, int64_t index, int64_t rows, int64_t context) const override {
    if (hungry && split == Split::train && index == 3) at::empty({int64_t{1} << 60}, at::kByte);
    return {rows, context, std::vector<int64_t>(static_cast<size_t>(rows * (context + 1)), index % 4)};
  }
};

}  // namespace

TEST_CASE("trainer: running out of memory is a status, and the next call tries again") {
  const RegisterSource<Hungry> registered{{.name = "hungry", .summary = "", .source = ""}};
  const ScratchFolder scratch;
  const auto config = small_run({{"data", {{"source", "hungry"}, {"context", 7}}}});
  const auto row = train(config, scratch.path);
  CHECK(row["status"] == "oom");
  CHECK(row["message"].get<std::string>().find("allocate") != std::string::npos);
  CHECK(row == read_json(scratch / "result.json").value);
  CHECK_FALSE(row.contains("truth"));
  CHECK_FALSE(row.contains("loss"));
  Hungry::hungry = false;
  const auto again = train(config, scratch.path);
  CHECK(again["status"] == "done");
  CHECK_FALSE(again.contains("bayes_loss"));
  unregister_source("hungry");
}

TEST_CASE("trainer: a run stopped at steps 7 and 19 ends with the bits of an undisturbed one") {
  for (const auto* dtype : {"float32", "bfloat16", "float16", "float64"}) {
    INFO(dtype);
    const ScratchFolder scratch;
    const auto config = small_run({{"train.dtype", dtype}});
    CHECK(train(config, scratch / "whole")["status"] == "done");
    const auto first = train_some(config, scratch / "parts", 7);
    CHECK(first["status"] == "interrupted");
    CHECK(first["steps"] == 7);
    CHECK_FALSE(std::filesystem::exists(scratch / "parts/result.json"));
    CHECK(train_some(config, scratch / "parts", 12)["steps"] == 19);
    CHECK(train(config, scratch / "parts")["status"] == "done");
    check_same_run(scratch / "whole", scratch / "parts");
  }
}

TEST_CASE("trainer: after a damaged checkpoint the one before leads to the same bits") {
  const ScratchFolder scratch;
  const auto config = small_run();
  train(config, scratch / "whole");
  CHECK(train_some(config, scratch / "parts", 19)["status"] == "interrupted");  // checkpoints of steps 16 and 19
  write_file_atomically(scratch / "parts/checkpoint/step-19/model.safetensors", "damaged");
  std::vector<std::string> told;
  const auto row =
      train_run(config, {scratch / "parts", {}, {}, [&](const std::string& note) { told.push_back(note); }});
  CHECK(row["status"] == "done");
  REQUIRE(told.size() == 1);
  CHECK_THAT(told[0], ContainsSubstring("step-19") && ContainsSubstring("going on from the checkpoint of step 16"));
  CHECK(row["provenance"]["notes"] == Json(told));
  check_same_run(scratch / "whole", scratch / "parts");
}

TEST_CASE("trainer: after a log was cut the newest checkpoint that knows no more leads to the same bits") {
  const ScratchFolder scratch;
  const auto config = small_run();
  CHECK_FALSE(train(config, scratch / "whole")["provenance"].contains("notes"));
  train_some(config, scratch / "parts", 19);  // checkpoints of steps 16 and 19, which know 17 and 20 lines
  const auto log = read_file(scratch / "parts/log.jsonl");
  const auto cut_to = [&](int lines) {
    size_t at = 0;
    for (int line = 0; line < lines; ++line) at = log.find('\n', at) + 1;
    write_file_atomically(scratch / "parts/log.jsonl", log.substr(0, at + 5));  // and a torn line
  };
  cut_to(16);
  CHECK_THROWS_MATCHES(train(config, scratch / "parts"), DataError,
                       MessageMatches(ContainsSubstring("step-16: knows 17 lines") &&
                                      ContainsSubstring("remove the folder to start this run afresh")));
  cut_to(18);
  train_some(config, scratch / "parts", 3);  // notes outlive another interruption
  const auto row = train(config, scratch / "parts");
  CHECK_THAT(row["provenance"]["notes"].dump(), ContainsSubstring("step-19: knows 20 lines"));
  check_same_run(scratch / "whole", scratch / "parts");
}

TEST_CASE("trainer: a run that ends worse than a uniform guess is done with a flag, a healthy one without") {
  const ScratchFolder scratch;
  CHECK(train(small_run(), scratch / "healthy")["flags"] == Json::array());
  const auto row = train(small_run({{"train.learning_rate", 10.0}, {"train.warmup_steps", 0}}), scratch / "bad");
  REQUIRE(row["status"] == "done");
  REQUIRE(row["loss"].get<double>() > std::log(14.0) + 0.05);
  CHECK_THAT(row["flags"].dump(), ContainsSubstring("worse than guessing uniformly (ln 14 = 2.639)"));
}

TEST_CASE("trainer: a result of wrong types is refused with place, field and what was expected") {
  const ScratchFolder scratch;
  auto row = train(small_run(), scratch.path);
  for (const auto* field : {"id", "status", "loss", "steps", "config", "flags"}) {
    auto damaged = row;
    damaged[field] = Json::array({1});
    write_file_atomically(scratch / "result.json", damaged.dump(2));
    CHECK_THROWS_MATCHES(train(small_run(), scratch.path), DataError,
                         MessageMatches(ContainsSubstring("result.json:") &&
                                        ContainsSubstring(std::string(field) + ": received a list, expected ")));
  }
}

TEST_CASE("trainer: a run on a CUDA device computes what the CPU computes, and resumes there", "[cuda]") {
  if (!at::hasCUDA()) SKIP("no CUDA device");
  const ScratchFolder scratch;
  const Json exact = {{"train.dtype", "float64"}, {"model.dropout", 0.0}, {"model.stochastic_depth", 0.0}};
  const auto on_cpu = train(small_run(exact), scratch / "cpu");
  auto changes = exact;
  changes["train.device"] = "cuda";
  CHECK(train_some(small_run(changes), scratch / "cuda", 12)["status"] == "interrupted");
  const auto on_cuda = train(small_run(changes), scratch / "cuda");
  REQUIRE(on_cuda["status"] == "done");
  CHECK(on_cuda["id"] == on_cpu["id"]);
  CHECK(on_cuda["provenance"]["device"] == "cuda");
  // Thirty float64 updates differ by the order of sums only, about 1e-16 each, which AdamW's quotient may amplify.
  CHECK(std::abs(on_cuda["loss"].get<double>() - on_cpu["loss"].get<double>()) < 1e-8);
  changes["train.dtype"] = "bfloat16";
  CHECK(train(small_run(changes), scratch / "mixed")["status"] == "done");
}

TEST_CASE("trainer: a run goes on without kernels if it began so, and is refused where its kernels are off") {
  const KernelsAsBefore as_before;
  set_kernels(true);
  if (!kernels_on()) SKIP("this processor has no kernels");
  const auto with = kernels_in_use();
  const ScratchFolder scratch;
  const auto config = small_run();
  CHECK(train(config, scratch / "with")["provenance"]["kernels"] == with);
  train_some(config, scratch / "with_parts", 7);
  set_kernels(false);
  CHECK(train(config, scratch / "without")["provenance"]["kernels"] == "none");
  train_some(config, scratch / "without_parts", 7);
  REQUIRE(read_file(scratch / "with/log.jsonl") != read_file(scratch / "without/log.jsonl"));

  CHECK_THROWS_MATCHES(
      train(config, scratch / "with_parts"), DataError,
      MessageMatches(ContainsSubstring("step 7: this run began with the program's kernels (" + with + ")") &&
                     ContainsSubstring("unset ATTNSCALE_KERNELS")));
  set_kernels(true);
  CHECK_FALSE(train(config, scratch / "with_parts")["provenance"].contains("notes"));
  check_same_run(scratch / "with", scratch / "with_parts");

  const auto row = train(config, scratch / "without_parts");
  CHECK(row["provenance"]["kernels"] == "none");
  CHECK_THAT(row["provenance"]["notes"].dump(), ContainsSubstring("went on without the kernels of " + with));
  check_same_run(scratch / "without", scratch / "without_parts");
  CHECK(kernels_on());  // the next run of this process has them
}

TEST_CASE("trainer: a run that another program began says so, and goes on") {
  const ScratchFolder scratch;
  const auto config = small_run();
  train_some(config, scratch.path, 7);
  const auto folder = scratch / "checkpoint";
  auto checkpoint = read_checkpoint(folder, 7).value();
  CHECK(checkpoint.state.at("commit") == build_commit());
  checkpoint.state["commit"] = "0123abc";
  write_checkpoint(folder, checkpoint, std::nullopt);
  const auto row = train(config, scratch.path);
  CHECK(row["status"] == "done");
  CHECK_THAT(row["provenance"]["notes"].dump(), ContainsSubstring("went on at step 7 with the program of commit " +
                                                                  build_commit() + " from one of 0123abc"));
}

TEST_CASE("trainer: rows that no checkpoint knows, torn or whole, are dropped on resume") {
  const ScratchFolder scratch;
  const auto config = small_run();
  train(config, scratch / "whole");
  train_some(config, scratch / "parts", 10);
  AppendLog(scratch / "parts/log.jsonl").append(R"({"step":11,"loss":0})");
  auto log = read_file(scratch / "parts/log.jsonl");
  write_file_atomically(scratch / "parts/log.jsonl", log + R"({"step":12,"lo)");
  train(config, scratch / "parts");
  check_same_run(scratch / "whole", scratch / "parts");
}

TEST_CASE("trainer: another seed is another run, the same seed the same") {
  const ScratchFolder scratch;
  train(small_run(), scratch / "a");
  train(small_run(), scratch / "b");
  check_same_run(scratch / "a", scratch / "b");
  train(small_run({{"train.seed", 1}}), scratch / "c");
  CHECK(read_file(scratch / "a/log.jsonl") != read_file(scratch / "c/log.jsonl"));
}

TEST_CASE("trainer: a checkpoint of another model is refused with what differs") {
  const ScratchFolder scratch;
  train_some(small_run(), scratch.path, 3);
  CHECK_THROWS_MATCHES(train(small_run({{"model.model_dim", 32}}), scratch.path), DataError,
                       MessageMatches(ContainsSubstring("another model") && ContainsSubstring("Float [14, 16]") &&
                                      ContainsSubstring("Float [14, 32]")));
  CHECK_THROWS_MATCHES(train(small_run({{"train.learning_rate", 0.02}}), scratch.path), DataError,
                       MessageMatches(ContainsSubstring("train.learning_rate: 0.01, asked for 0.02")));
  CHECK(train(small_run(), scratch.path)["status"] == "done");
}

TEST_CASE("trainer: the log has a row per step and per evaluation, and the result sums them up") {
  const ScratchFolder scratch;
  const auto row = train(small_run(), scratch.path);
  std::vector<Json> evaluations;
  int64_t steps = 0;
  std::istringstream log(read_file(scratch / "log.jsonl"));
  for (std::string line; std::getline(log, line);) {
    const auto entry = Json::parse(line);
    if (entry.contains("eval")) evaluations.push_back(entry);
    else CHECK(entry["step"] == ++steps);
  }
  CHECK(steps == 30);
  REQUIRE(evaluations.size() == 3);
  CHECK(evaluations.back()["loss"] == row["loss"]);
  CHECK(evaluations.back()["tokens"] == 30 * 3 * 7);
  CHECK(row["tokens"] == 30 * 3 * 7);
  CHECK(evaluations.back()["flops"] == row["flops"]);
  CHECK(row["curve"]["steps"] == Json({10, 20, 30}));
  CHECK(row["curve"]["loss"][1] == evaluations[1]["loss"]);
  CHECK(row["excess"].get<double>() == row["loss"].get<double>() - row["bayes_loss"].get<double>());
  CHECK(row == read_json(scratch / "result.json").value);
  CHECK(all_finite(row));
  CHECK(row["flops_ledger"]["executed"] == row["flops"]);
  CHECK(row["state_bytes"] == 2 * 2 * 7 * 16 * 4);  // layers x (key, value) x positions x width x float32
}

TEST_CASE("trainer: a finished run is not trained again") {
  const ScratchFolder scratch;
  const auto row = train(small_run(), scratch.path);
  bool stepped = false;
  const auto again = train_run(small_run(), {scratch.path, [&](const Progress&) { stepped = true; }, {}});
  CHECK(again == row);
  CHECK_FALSE(stepped);
}

TEST_CASE("trainer: a run whose numbers leave the finite ends as diverged at a step, without NaN in any file") {
  const ScratchFolder scratch;
  const auto row = train(small_run({{"train.learning_rate", 1e30}, {"train.clip_norm", 0}}), scratch.path);
  CHECK(row["status"] == "diverged");
  CHECK(row["diverged_at"].get<int64_t>() >= 2);  // the first update makes the weights useless, the second step sees it
  CHECK(row["diverged_at"].get<int64_t>() <= 10);
  CHECK_FALSE(row.contains("loss"));
  CHECK(all_finite(read_json(scratch / "result.json").value));
  std::istringstream log(read_file(scratch / "log.jsonl"));
  for (std::string line; std::getline(log, line);) CHECK(all_finite(Json::parse(line)));
}

TEST_CASE("trainer: loss falls towards the Bayes loss and never below it") {
  const ScratchFolder scratch;
  const auto row = train(small_run({{"train.steps", 300},
                                    {"model.dropout", 0.0},
                                    {"model.stochastic_depth", 0.0},
                                    {"train.batch_size", 16},
                                    {"train.eval_tokens", 8192},
                                    {"train.checkpoint_every", 0}}),
                         scratch.path);
  const double start = std::log(14.0);  // a uniform guess over the vocabulary
  const double bayes = row["bayes_loss"].get<double>(), loss = row["loss"].get<double>();
  CHECK(loss < start - 0.8 * (start - bayes));
  // On the same tokens only luck could beat the truth: by less than a standard error, about 1 nat / sqrt(8192).
  CHECK(row["excess"].get<double>() > -0.011);
  CHECK(std::abs(bayes - row["truth"]["bayes_loss"].get<double>()) < 5 * 0.011);
}

TEST_CASE("trainer: validation does not depend on the batch size or the seed") {
  const ScratchFolder scratch;
  const auto a = train(small_run(), scratch / "a");
  const auto b = train(small_run({{"train.batch_size", 5}, {"train.seed", 9}}), scratch / "b");
  CHECK(a["bayes_loss"] == b["bayes_loss"]);
}

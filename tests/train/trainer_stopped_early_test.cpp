// A run that a referee (train/referee.h) ends before its last step.

#include <catch2/catch_test_macros.hpp>

#include "core/files.h"
#include "core/hash.h"
#include "scratch_folder.h"
#include "train/run_result.h"
#include "train/trainer.h"

using namespace attnscale;

namespace {

RunConfig config_of_thirty_steps(const std::string& more = "") {
  const auto json = Json::parse(R"({
    "model": {"depth": 1, "model_dim": 16, "num_heads": 2},
    "data": {"source": "zipf_memory", "context": 8, "num_keys": 10, "num_labels": 4},
    "train": {"steps": 30, "batch_size": 2, "warmup_steps": 5, "eval_every": 5, "eval_tokens": 64,
              "checkpoint_every": 4)" +
                                more + "}}");
  std::vector<Problem> problems;
  auto config = RunConfig::from_json(json, problems);
  REQUIRE(problems.empty());
  return config;
}

/// Looks at each multiple of ten, ends the run at one of them, and remembers what it was asked.
class StopAt : public Referee {
 public:
  explicit StopAt(int64_t step, Json rule = {{"rule", "test"}}) : step_(step), rule_(std::move(rule)) {}
  const Json& rule() const override { return rule_; }
  bool looks_at(int64_t step) const override { return step % 10 == 0; }
  Json decide(int64_t step, const std::vector<Json>& evaluations) override {
    asked.push_back(step);
    seen = evaluations;
    if (step != step_) return nullptr;
    return {{"step", step}, {"loss", evaluations.back()["loss"]}, {"rule", rule_}, {"message", "too bad"}};
  }
  std::vector<int64_t> asked;
  std::vector<Json> seen;

 private:
  int64_t step_;
  Json rule_;
};

RunControl under(const std::filesystem::path& folder, Referee& referee) {
  RunControl control{.folder = folder};
  control.referee = &referee;
  return control;
}

std::string bits_at(const std::filesystem::path& folder, int step) {
  return sha256_of_file(folder / "log.jsonl") +
         sha256_of_file(folder / "checkpoint" / ("step-" + std::to_string(step)) / "model.safetensors");
}

}  // namespace

TEST_CASE("trainer_stopped_early: a referee that stops nothing is asked where it looks, and changes no bit") {
  const ScratchFolder scratch;
  StopAt nowhere(-1);
  const auto config = config_of_thirty_steps();
  CHECK(train_run(config, under(scratch / "watched", nowhere))["status"] == "done");
  train_run(config, {.folder = scratch / "alone"});
  CHECK(nowhere.asked == std::vector<int64_t>{10, 20, 30});
  CHECK(nowhere.seen.size() == 6);
  CHECK(bits_at(scratch / "watched", 30) == bits_at(scratch / "alone", 30));
}

TEST_CASE(
    "trainer_stopped_early: a stopped run is no finished one, its log is the beginning of the whole one's, and it can "
    "go on") {
  const ScratchFolder scratch;
  const auto config = config_of_thirty_steps();
  train_run(config, {.folder = scratch / "alone"});
  StopAt twenty(20);
  const auto row = train_run(config, under(scratch / "run", twenty));
  CHECK(row["status"] == "stopped");
  CHECK(row["steps"] == 20);
  CHECK(row["message"] == "too bad");
  CHECK_FALSE(row.contains("loss"));  // it is no loss at the end
  CHECK(row["stopped"]["loss"] == row["curve"]["loss"].back());
  CHECK(row["tokens"] == 20 * 2 * 8);
  CHECK(read_row(scratch / "run" / "result.json") == row);
  const auto whole = read_file(scratch / "alone" / "log.jsonl"), part = read_file(scratch / "run" / "log.jsonl");
  CHECK(part.size() < whole.size());
  CHECK(whole.starts_with(part));
  // The same rule: it stays as it is, and nobody is asked.
  twenty.asked.clear();
  CHECK(train_run(config, under(scratch / "run", twenty)) == row);
  CHECK(twenty.asked.empty());
  // No rule, or another: it goes on, to the bits of an undisturbed run.
  CHECK(train_run(config, {.folder = scratch / "run"})["status"] == "done");
  CHECK(bits_at(scratch / "run", 30) == bits_at(scratch / "alone", 30));
}

TEST_CASE(
    "trainer_stopped_early: a run killed or interrupted after the decision and before its result is asked again, at "
    "once") {
  const ScratchFolder scratch;
  const auto config = config_of_thirty_steps();
  StopAt twenty(20);
  const auto row = train_run(config, under(scratch / "run", twenty));
  const auto bits = bits_at(scratch / "run", 20);
  std::filesystem::remove(scratch / "run" / "result.json");
  twenty.asked.clear();
  auto again = train_run(config, under(scratch / "run", twenty));
  CHECK(twenty.asked == std::vector<int64_t>{20});
  CHECK(again["stopped"] == row["stopped"]);
  CHECK(again["steps"] == 20);
  CHECK(bits_at(scratch / "run", 20) == bits);
  // Interrupted at every step, the last ones with a checkpoint at the very step of the decision.
  while (true) {
    auto control = under(scratch / "cut", twenty);
    control.stop = [] { return true; };
    const auto cut = train_run(config, control);
    if (cut["status"] == "interrupted") continue;
    CHECK(cut["stopped"] == row["stopped"]);
    break;
  }
  CHECK(bits_at(scratch / "cut", 20) == bits);
}

TEST_CASE("trainer_stopped_early: one that may roll back keeps the place to go back to, for when it goes on") {
  const ScratchFolder scratch;
  const auto config = config_of_thirty_steps(R"(, "on_divergence": "roll_back", "most_recoveries": 2)");
  StopAt twenty(20);
  train_run(config, under(scratch / "run", twenty));
  CHECK(std::filesystem::exists(scratch / "run" / "roll_back"));
  CHECK(train_run(config, {.folder = scratch / "run"})["status"] == "done");
  CHECK_FALSE(std::filesystem::exists(scratch / "run" / "roll_back"));
}

TEST_CASE("trainer_stopped_early: a damaged row of a stopped run is refused with its field") {
  const ScratchFolder scratch;
  StopAt ten(10);
  Json row = train_run(config_of_thirty_steps(), under(scratch / "run", ten));
  row["provenance"].erase("sha256");
  row["stopped"].erase("loss");
  write_file_atomically(scratch / "bad.json", row.dump(1));
  CHECK_THROWS_AS(read_row(scratch / "bad.json"), DataError);
}

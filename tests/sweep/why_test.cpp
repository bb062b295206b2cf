#include "sweep/why.h"

#include <catch2/catch_test_macros.hpp>

#include "core/files.h"
#include "scratch_folder.h"
#include "sweep/plan.h"

using namespace attnscale;

namespace {

struct HalfDoneSweep {
  ScratchFolder folder;
  Plan plan_of(const std::string& base) const {
    write_file_atomically(folder / "spec.json",
                          R"({"base": {"train": {)" + base + R"(}}, "grid": {"model.depth": [1, 2]}, "seeds": 2})");
    return make_plan(read_spec(folder / "spec.json", {}));
  }
  std::filesystem::path run(const PlannedRun& planned) const { return (folder / "out") / "runs" / planned.id; }
  void begin(const PlannedRun& planned) const {
    make_folder(run(planned));
    write_file_atomically(run(planned) / "config.json", planned.config().to_json().dump());
  }
  void end(const PlannedRun& planned, const Json& more) const {
    begin(planned);
    Json row = {{"id", planned.id},
                {"steps", 1},
                {"params", 2},
                {"tokens", 3},
                {"seed", 0},
                {"flops", 1.0},
                {"config", Json::object()},
                {"provenance", Json::object()}};
    row.update(more);
    write_file_atomically(run(planned) / "result.json", row.dump());
  }
  std::vector<RunReason> reasons(const Plan& plan) const { return explain(folder / "out", plan.to_json()); }
};

}  // namespace

TEST_CASE("why: new, unfinished, done, diverged, failed and damaged runs are told apart") {
  const HalfDoneSweep f;
  const auto plan = f.plan_of("\"steps\": 20");
  for (const auto& reason : f.reasons(plan)) CHECK(reason.state == "new");
  f.end(plan.runs[0], {{"status", "done"}, {"loss", 1.5}, {"best_loss", 1.5}});
  f.end(plan.runs[1], {{"status", "oom"}, {"message", "killed"}});
  f.begin(plan.runs[2]);
  make_folder(f.run(plan.runs[2]) / "checkpoint" / "step-9");
  make_folder(f.run(plan.runs[2]) / "checkpoint" / "step-10");
  const auto found = f.reasons(plan);
  CHECK(found[0].state + ": " + found[0].reason == "done: loss 1.5000");
  CHECK(found[1].state + ": " + found[1].reason == "failed: oom: killed; will be tried again");
  CHECK(found[2].state + ": " + found[2].reason == "unfinished: goes on from step 10");
  CHECK(found[3].state == "new");
  f.end(plan.runs[3], {{"status", "diverged"}, {"diverged_at", 7}});
  CHECK(f.reasons(plan)[3].reason == "diverged at step 7");
  write_file_atomically(f.run(plan.runs[3]) / "result.json", "{\"id\": ");
  CHECK(f.reasons(plan)[3].state == "failed");
}

TEST_CASE("why: a run that stands at the same point with another config has changed, and in what is said") {
  const HalfDoneSweep f;
  const auto before = f.plan_of("\"steps\": 20");
  for (const auto& run : before.runs) f.end(run, {{"status", "done"}, {"loss", 1.5}, {"best_loss", 1.5}});
  const auto after = f.plan_of("\"steps\": 30, \"batch_size\": 4");
  const auto found = f.reasons(after);
  for (size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].state == "changed");
    CHECK(found[i].before == before.runs[i].id);
    CHECK(found[i].reason.find("train.steps 20 -> 30") != std::string::npos);
    CHECK(found[i].reason.find("train.batch_size") != std::string::npos);
    CHECK(found[i].reason.find("model.depth") == std::string::npos);
  }
}

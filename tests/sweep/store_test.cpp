#include "sweep/store.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/version.h"
#include "scratch_folder.h"
#include "train/provenance.h"
#include "train/run_result.h"

using namespace attnscale;

namespace {

struct Fixture {
  ScratchFolder folder;
  Plan plan;
  Fixture() {
    write_file_atomically(folder / "spec.json", R"({"seeds": 3})");
    plan = make_plan(read_spec(folder / "spec.json", {}));
  }
  Json row(size_t run) const {
    const double loss = 1.5 + static_cast<double>(run);
    return {{"id", plan.runs[run].id},
            {"status", "done"},
            {"loss", loss},
            {"best_loss", loss},
            {"steps", 1},
            {"params", 2},
            {"tokens", 3},
            {"seed", 0},
            {"flops", 1.0},
            {"config", Json::object()},
            {"provenance", {{"version", version}, {"commit", build_commit()}}}};
  }
  Json failed_row(size_t run) const {
    return {{"id", plan.runs[run].id}, {"status", "failed"}, {"message", "worker killed by signal 11"}};
  }
  void finish_run(size_t run) const {  // what a trainer leaves
    const auto runs = (folder / "out") / "runs" / plan.runs[run].id;
    make_folder(runs);
    write_file_atomically(runs / "result.json", row(run).dump());
  }
  std::string table() const { return read_file((folder / "out") / "results.jsonl"); }
};

}  // namespace

TEST_CASE("store: a run that finished before the table had its row is done, not done again") {
  Fixture f;
  f.finish_run(1);
  Store store(f.folder / "out", f.plan);
  CHECK(store.is_done(f.plan.runs[1].id));
  CHECK_FALSE(store.is_done(f.plan.runs[0].id));
  CHECK(f.table() == f.row(1).dump() + "\n");
}

TEST_CASE("store: the finished table is in plan order, whatever the order of execution") {
  Fixture f;
  Store store(f.folder / "out", f.plan);
  for (const size_t run : {2, 0, 1}) store.record(f.row(run));
  CHECK(f.table() == f.row(2).dump() + "\n" + f.row(0).dump() + "\n" + f.row(1).dump() + "\n");
  store.finish();
  CHECK(f.table() == f.row(0).dump() + "\n" + f.row(1).dump() + "\n" + f.row(2).dump() + "\n");
}

TEST_CASE("store: a damaged or foreign result counts as not done") {
  Fixture f;
  f.finish_run(0);
  f.finish_run(1);
  const auto result = [&](size_t run) { return (f.folder / "out") / "runs" / f.plan.runs[run].id / "result.json"; };
  write_file_atomically(result(0), "{\"id\": \"tr");
  write_file_atomically(result(1), R"({"id": "0123456789abcdef"})");
  Store store(f.folder / "out", f.plan);
  CHECK_FALSE(store.is_done(f.plan.runs[0].id));
  CHECK_FALSE(store.is_done(f.plan.runs[1].id));
}

TEST_CASE("store: a failed run keeps its row over restarts until the run is done anew, and has one row at any time") {
  Fixture f;
  { Store(f.folder / "out", f.plan).record(f.failed_row(1)); }
  for (int restart = 0; restart < 2; ++restart) {
    Store store(f.folder / "out", f.plan);
    CHECK_FALSE(store.is_done(f.plan.runs[1].id));
    CHECK(f.table() == f.failed_row(1).dump() + "\n");
  }
  Store store(f.folder / "out", f.plan);
  f.finish_run(1);
  store.record(f.row(1));
  CHECK(store.is_done(f.plan.runs[1].id));
  CHECK(f.table() == f.row(1).dump() + "\n");
}

TEST_CASE("store: a result with a wrong type is said with file, line and field, kept aside, and done again") {
  Fixture f;
  auto row = f.row(0);
  row["loss"] = "1.5";
  const auto runs = (f.folder / "out") / "runs" / f.plan.runs[0].id;
  make_folder(runs);
  write_file_atomically(runs / "result.json", row.dump(2));
  CHECK_THROWS_WITH(
      read_row(runs / "result.json"),
      Catch::Matchers::ContainsSubstring("result.json:4:3: loss: received the text \"1.5\", expected a number"));
  Store store(f.folder / "out", f.plan);
  CHECK_FALSE(store.is_done(f.plan.runs[0].id));
  CHECK(std::filesystem::exists(runs / "result.json.refused"));
}

TEST_CASE("store: results of another build are counted and named, those of this one are not") {
  Fixture f;
  for (size_t run = 0; run < 3; ++run) f.finish_run(run);
  auto old = f.row(1);
  old["provenance"] = {{"version", "0.0.9"}, {"commit", "feed"}};
  write_file_atomically((f.folder / "out") / "runs" / f.plan.runs[1].id / "result.json", old.dump());
  const auto rows = peek_results(f.folder / "out", f.plan);
  CHECK(rows.size() == 3);
  const auto text = other_builds_text(rows, 3);
  CHECK_THAT(text, Catch::Matchers::ContainsSubstring("1 of 3 runs are done by version 0.0.9, commit feed"));
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
  CHECK(peek_results(f.folder / "absent", f.plan).empty());
}

TEST_CASE("store: a second sweep in the same folder joins with the same plan, and is refused with another") {
  Fixture f;
  auto first = std::make_unique<Store>(f.folder / "out", f.plan);
  first->write_plan(read_spec(f.folder / "spec.json", {}), f.plan);
  Store second(f.folder / "out", f.plan);
  CHECK(first->leads());
  CHECK_FALSE(second.leads());
  f.finish_run(2);
  CHECK(second.look_for(f.plan.runs[2].id));
  CHECK_FALSE(second.look_for(f.plan.runs[1].id));
  CHECK(f.table().empty());  // one process keeps it
  CHECK(first->record(f.failed_row(0)));
  CHECK(second.look_for(f.plan.runs[0].id));  // failed in the other process just now: that counts
  first->finish();
  CHECK(f.table() == f.failed_row(0).dump() + "\n" + f.row(2).dump() + "\n");

  write_file_atomically(f.folder / "spec.json", R"({"seeds": 2})");
  const auto other = make_plan(read_spec(f.folder / "spec.json", {}));
  CHECK_THROWS_WITH(Store(f.folder / "out", other), Catch::Matchers::ContainsSubstring("with another plan"));

  first.reset();
  second.try_to_lead();
  CHECK(second.leads());
  CHECK(second.record(f.row(1)));
  second.finish();
  CHECK(f.table() == f.failed_row(0).dump() + "\n" + f.row(1).dump() + "\n" + f.row(2).dump() + "\n");
}

TEST_CASE("store: one that slept until its lead was taken over writes nothing into the table any more") {
  Fixture f;
  Store first(f.folder / "out", f.plan);
  const auto lease = Lease::take(f.folder / "out", 60, 1);  // as after its time ran out
  REQUIRE(lease);
  write_file_atomically((f.folder / "out") / "results.jsonl", "the other's\n");
  CHECK(first.record(f.row(0)));
  first.finish();
  CHECK_FALSE(first.leads());
  CHECK(f.table() == "the other's\n");
}

TEST_CASE("store: runs of another plan are kept and counted") {
  Fixture f;
  make_folder((f.folder / "out") / "runs" / "feedfeedfeedfeed");
  Store store(f.folder / "out", f.plan);
  CHECK(store.strangers() == 1);
  CHECK(std::filesystem::exists((f.folder / "out") / "runs" / "feedfeedfeedfeed"));
}

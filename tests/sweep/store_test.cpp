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

TEST_CASE("store: a failure that is recorded late does not replace what another process made of the run meanwhile") {
  Fixture f;
  Store store(f.folder / "out", f.plan);
  const auto id = f.plan.runs[0].id;
  const auto result = store.run_folder(id) / "result.json";
  f.finish_run(0);  // by another
  CHECK(store.record(f.failed_row(0)));
  CHECK(store.is_done(id));
  CHECK(f.table() == f.row(0).dump() + "\n");
  CHECK(read_file(result) == f.row(0).dump());
}

TEST_CASE("store: a failure under a lease that another has had since is not written: that one may have saved more") {
  Fixture f;
  Store store(f.folder / "out", f.plan);
  const auto run_folder = store.run_folder(f.plan.runs[0].id);
  make_folder(run_folder);
  for (int64_t token = 1; token <= 2; ++token) REQUIRE(Lease::take(run_folder, 60)->token() == token);
  CHECK_FALSE(store.record(f.failed_row(0), 1));
  CHECK_FALSE(std::filesystem::exists(run_folder / "result.json"));
  CHECK(store.record(f.failed_row(0), 3));  // of its own: the try before had the third
  CHECK(std::filesystem::exists(run_folder / "result.json"));
}

TEST_CASE("store: a run that fails again in the same words is seen by the other processes as having failed anew") {
  Fixture f;
  { Store(f.folder / "out", f.plan).record(f.failed_row(1)); }
  Store first(f.folder / "out", f.plan);
  first.write_plan(read_spec(f.folder / "spec.json", {}), f.plan);
  Store second(f.folder / "out", f.plan);
  const auto id = f.plan.runs[1].id;
  CHECK_FALSE(second.look_for(id));
  first.record(f.failed_row(1));
  CHECK(second.look_for(id));
}

TEST_CASE("store: after a power cut another plan waits until the dead one's time is over, and begins") {
  Fixture f;
  const auto other = f.folder / "out" / "lease-1";
  make_folder(other);
  // Longer than the moment that a killed sweep's workers get.
  write_file_atomically(other / "owner.json",
                        R"({"host": "here", "host_key": "before/1", "beats": 9, "seconds": 5.5})");
  const Store store(f.folder / "out", f.plan);
  CHECK(store.leads());
}

TEST_CASE("store: the table goes over from one of whom nothing is known once its time is over") {
  Fixture f;
  make_folder(f.folder / "out");
  { Store(f.folder / "out", f.plan).write_plan(read_spec(f.folder / "spec.json", {}), f.plan); }
  const auto owner = f.folder / "out" / "lease-1" / "owner.json";
  write_file_atomically(owner, R"({"host": "here", "host_key": "before/1", "beats": 9, "seconds": 0.5})");
  Store store(f.folder / "out", f.plan);
  CHECK_FALSE(store.leads());
  CHECK_THROWS_AS(store.write(f.folder / "out" / "file", "x"), LeaseLost);
  store.settle_lead([] { return false; });
  CHECK(store.leads());
  store.write(f.folder / "out" / "file", "x");
  CHECK(read_file(f.folder / "out" / "file") == "x");
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

#include "sweep/store.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "scratch_folder.h"

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
    return {{"id", plan.runs[run].id}, {"status", "done"}, {"loss", 1.5 + static_cast<double>(run)}};
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

TEST_CASE("store: a second sweep in the same folder is refused while the first is at work") {
  Fixture f;
  Store store(f.folder / "out", f.plan);
  CHECK_THROWS_AS(Store(f.folder / "out", f.plan), IoError);
}

TEST_CASE("store: runs of another plan are kept and counted") {
  Fixture f;
  make_folder((f.folder / "out") / "runs" / "feedfeedfeedfeed");
  Store store(f.folder / "out", f.plan);
  CHECK(store.strangers() == 1);
  CHECK(std::filesystem::exists((f.folder / "out") / "runs" / "feedfeedfeedfeed"));
}

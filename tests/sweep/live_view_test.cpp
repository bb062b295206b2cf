#include "sweep/live_view.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>

#include "core/files.h"
#include "core/lease.h"
#include "scratch_folder.h"

using namespace attnscale;
using Catch::Matchers::WithinRel;

namespace {

/// A sweep of four runs of 1000 steps and equal work, as another process would leave it half way.
struct WatchedSweep {
  ScratchFolder scratch;
  std::filesystem::path folder = scratch.path;
  WatchedSweep() {
    Json runs = Json::array();
    for (const auto* id : {"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc", "dddddddddddddddd"}) {
      runs.push_back(
          {{"id", id}, {"flops", 1e12}, {"config", {{"train", {{"steps", 1000}}}, {"model", {{"depth", 2}}}}}});
      make_folder(folder / "runs" / id);
    }
    write_file_atomically(folder / "plan.json", Json{{"name", "watched"}, {"runs", runs}}.dump());
  }
  std::filesystem::path run(char letter) const { return folder / "runs" / std::string(16, letter); }
  void end(char letter, const std::string& status, double seconds) const {
    Json row = {{"id", std::string(16, letter)}, {"status", status}, {"timing", {{"seconds", seconds}}}};
    if (status == "done")
      row.update({{"loss", 1.0},
                  {"best_loss", 1.0},
                  {"steps", 1000},
                  {"params", 2},
                  {"tokens", 3},
                  {"seed", 0},
                  {"flops", 1e12},
                  {"config", Json::object()},
                  {"provenance", Json::object()}});
    else row["message"] = "worker killed by signal 11\x1b[2J";
    write_file_atomically(run(letter) / "result.json", row.dump());
  }
  void log(char letter, int step, double loss) const {
    write_file_atomically(run(letter) / "log.jsonl",
                          Json{{"step", step}, {"loss", loss}, {"learning_rate", 0.1}}.dump() + "\n" +
                              Json{{"step", step}, {"eval", true}, {"loss", 9.0}}.dump() + "\n{\"step\": 9999, \"lo");
  }
};

}  // namespace

TEST_CASE("live_view: what has ended, who is at work and how far, and what is left by the pace of what has ended") {
  const WatchedSweep sweep;
  LiveView view(sweep.folder);
  auto state = view.look();
  CHECK(state.runs == 4);
  CHECK(state.ended() == 0);
  CHECK(state.running.empty());
  CHECK_FALSE(state.seconds_left);

  sweep.end('a', "done", 100);
  sweep.end('b', "done", 200);
  const auto lease = Lease::take(sweep.run('c'), 60);
  sweep.log('c', 250, 1.5);
  state = view.look();
  CHECK(state.done == 2);
  REQUIRE(state.running.size() == 1);
  CHECK(state.running[0].step == 250);
  CHECK(state.running[0].loss == 1.5);
  CHECK_FALSE(state.running[0].steps_per_second);  // one look shows no speed
  // Three quarters of a run and a whole one are left, for one process; the median pace is 150 s a run. The 5 % and 95 %
  // quantiles of 100 and 200, interpolated, are 105 and 195.
  REQUIRE(state.seconds_left);
  CHECK_THAT(*state.seconds_left, WithinRel(1.75 * 150, 1e-9));
  CHECK_THAT(*state.least_left, WithinRel(1.75 * 105, 1e-9));
  CHECK_THAT(*state.most_left, WithinRel(1.75 * 195, 1e-9));
  CHECK_THAT(state.fraction, WithinRel(2.25 / 4, 1e-9));
  sweep.log('c', 300, 1.4);
  state = view.look();
  REQUIRE(state.running[0].steps_per_second);
  CHECK(*state.running[0].steps_per_second > 0);

  sweep.end('c', "failed", 0);
  sweep.end('d', "diverged", 0);
  state = view.look();
  CHECK(state.ended() == 4);
  CHECK(state.failed == 2);  // a diverged row without its numbers is damaged: it counts as failed, too
  CHECK(state.failures.size() == 2);
}

TEST_CASE("live_view: text keeps to the width and height, and holds no control character") {
  const WatchedSweep sweep;
  LiveView view(sweep.folder);
  std::vector<std::unique_ptr<Lease>> leases;
  for (const char letter : {'a', 'b', 'c'}) leases.push_back(Lease::take(sweep.run(letter), 60));
  sweep.end('d', "failed", 0);
  const auto state = view.look();
  for (const size_t width : {1, 5, 20, 40, 80, 200})
    for (const size_t lines : {1, 2, 3, 4, 10}) {
      INFO(width << " x " << lines);
      const auto text = live_text(state, "watched", width, lines);
      CHECK_FALSE(text.empty());
      CHECK(text.size() <= std::max<size_t>(lines, 3));
      for (const auto& line : text) {
        CHECK(line.size() <= std::max<size_t>(width, 1));
        for (const char c : line) CHECK(static_cast<unsigned char>(c) >= 0x20);
      }
    }
  CHECK(live_text(state, "watched", 200, 1)[0] == "watched: 1/4 runs, 3 running, 1 failed");
  CHECK(live_text(state, "watched", 200, 20).back().find("dddddddd: failed worker killed by signal 11?[2J") !=
        std::string::npos);
}

TEST_CASE("live_view: a folder that is no sweep's is refused") {
  const ScratchFolder scratch;
  CHECK_THROWS_AS(LiveView(scratch.path), DataError);
  CHECK_THROWS_AS(LiveView(scratch / "nowhere"), IoError);
}

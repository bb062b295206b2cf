#include "bench/sweeping.h"

#include <cmath>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "core/files.h"
#include "python_with_torch.h"
#include "scratch_folder.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

SweepBench small_sweep(const std::filesystem::path& folder) {
  return {.program = ATTNSCALE_PROGRAM,
          .folder = folder,
          .jobs = 2,
          .depths = {1, 2},
          .widths = {16},
          .head_dim = 8,
          .learning_rates = {0.001, 0.003},
          .steps = 4,
          .context = 8,
          .batch_size = 2,
          .dtype = "float32",
          .python = ""};
}

}  // namespace

TEST_CASE("bench sweep: all sizes are one sweep, timed and removed") {
  const ScratchFolder scratch;
  const auto result = bench_sweep(small_sweep(scratch.path));
  CHECK(result["runs"] == 4);
  REQUIRE(result["sizes"].size() == 2);
  double seconds = 0;
  for (const auto& size : result["sizes"]) {
    CHECK(size["runs"] == 2);
    CHECK(size["seconds"].get<double>() > 0);
    seconds += size["seconds"].get<double>();
  }
  CHECK(std::abs(result["seconds"].get<double>() - seconds) < 1e-9);
  CHECK(result["sizes"][1]["seconds"].get<double>() != result["sizes"][0]["seconds"].get<double>());
  CHECK(result["processor_seconds"].get<double>() > 0);
  CHECK(result["sweeps"] == Json{result["seconds"]});
  CHECK_FALSE(result.contains("python"));
  CHECK(std::filesystem::is_empty(scratch.path));
}

TEST_CASE("bench sweep: runs that were not made take as long as those that were, without what compiling took") {
  const auto seconds = [](std::vector<double> made, bool first_compiles, int64_t count) {
    std::vector<Spent> runs;
    for (const double one : made) runs.push_back({one, 10 * one});
    const auto all = all_runs(runs, first_compiles, count);
    CHECK(std::abs(all.processor_seconds - 10 * all.seconds) < 1e-9);
    return all.seconds;
  };
  CHECK(seconds({5}, false, 4) == 20);
  CHECK(seconds({5, 7}, false, 4) == 24);
  CHECK(seconds({60, 7}, true, 4) == 60 + 3 * 7);
  CHECK(seconds({60, 7, 9}, true, 4) == 60 + 7 + 9 + 8);
  CHECK(seconds({60, 7}, true, 2) == 67);
  CHECK(seconds({60}, true, 1) == 60);
}

TEST_CASE("bench sweep: a mode that compiles begins with an empty cache of its own, and runs at least twice") {
  // In place of Python with torch: a program that answers as the script does, notes what it finds in its cache, and
  // leaves something there.
  const ScratchFolder scratch, other;
  const auto python = other / "python";
  write_file_atomically(python, R"(#!/usr/bin/env python3
import json, os, pathlib, sys
work = json.loads(sys.stdin.readline())
dim = work["dim"]
params = (work["vocab"] + work["context"]) * dim + work["depth"] * (12 * dim * dim + 2 * dim) + dim
print(json.dumps({"torch": "none", "modes": work["modes"], "left_out": [], "params": params}), flush=True)
question = json.loads(sys.stdin.readline())
cache = pathlib.Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
with open(pathlib.Path(__file__).parent / "log", "a") as log:
    print(question["mode"], work["threads"], sorted(os.listdir(cache)) if cache.exists() else "empty", file=log)
cache.mkdir(parents=True, exist_ok=True)
(cache / str(work["dim"])).touch()
print(json.dumps({"ms": 1}), flush=True)
)");
  std::filesystem::permissions(python, std::filesystem::perms::owner_all);
  auto bench = small_sweep(scratch.path);
  bench.python = python;
  bench.depths = {1};
  bench.widths = {16, 24};
  bench.jobs = 1;
  bench.learning_rates = {0.001, 0.003, 0.01};
  bench.modes = {"compiled float32"};
  const auto result = bench_sweep(bench);
  CHECK(read_file(other / "log") ==
        "compiled float32 1 empty\ncompiled float32 1 ['16']\n"
        "compiled float32 1 ['16']\ncompiled float32 1 ['16', '24']\n");
  for (const auto& size : result["sizes"]) {
    const auto seconds = size["python"]["tried"][0]["run_seconds"].get<std::vector<double>>();
    REQUIRE(seconds.size() == 2);
    CHECK(std::abs(size["python"]["seconds"].get<double>() - (seconds[0] + 2 * seconds[1])) < 1e-9);
  }
  CHECK(result["python"]["runs"] == 4);
  CHECK(result["python"]["extrapolated"] == true);
  CHECK(result["python"]["lowest"] <= result["python"]["times_slower"]);
  CHECK(result["python"]["times_slower"] <= result["python"]["highest"]);
  CHECK(std::filesystem::is_empty(scratch.path));
}

TEST_CASE("bench sweep: Python's runs are counted, and what is extrapolated is said so") {
  const auto python = python_with_torch();
  if (python.empty()) SKIP("no Python with torch");
  const ScratchFolder scratch;
  auto bench = small_sweep(scratch.path);
  bench.python = python;
  bench.depths = {1};
  bench.modes = {"eager float32"};
  for (const int64_t runs : {1, 2}) {
    bench.python_runs = runs;
    const auto result = bench_sweep(bench);
    const auto &whole = result["python"], &size = result["sizes"][0]["python"];
    CHECK(whole["extrapolated"] == (runs == 1));
    CHECK(whole["runs"] == runs);
    CHECK(size["tried"].size() == 2);  // with one thread and with two
    CHECK(whole["seconds"] == size["seconds"]);
    const auto& kept = size["tried"][size["threads"] == 1 ? 0 : 1]["run_seconds"];
    REQUIRE(std::ssize(kept) == runs);
    const double made = kept[0].get<double>() + (runs == 2 ? kept[1].get<double>() : kept[0].get<double>());
    CHECK(std::abs(size["seconds"].get<double>() - made) < 1e-9);
    const double ratio = size["seconds"].get<double>() / result["sizes"][0]["seconds"].get<double>();
    CHECK(std::abs(size["times_slower"].get<double>() - ratio) < 1e-9);
    REQUIRE(result["sweeps"].size() == 2);
    const double both = result["sweeps"][0].get<double>() + result["sweeps"][1].get<double>();
    CHECK(std::abs(whole["times_slower"].get<double>() - 2 * whole["seconds"].get<double>() / both) < 1e-9);
    CHECK(std::abs(whole["times_slower"].get<double>() - size["times_slower"].get<double>()) < 1e-9);
    CHECK(whole["lowest"] == size["times_slower"]);
    CHECK(whole["highest"] == size["times_slower"]);
  }
  bench.python_runs = 3;
  CHECK_THROWS_MATCHES(bench_sweep(bench), ConfigError, MessageMatches(ContainsSubstring("1 to 2 runs of each size")));
}

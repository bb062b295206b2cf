#include "bench/sweeping.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
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

TEST_CASE("bench sweep: every size is swept, timed and removed") {
  const ScratchFolder scratch;
  const auto result = bench_sweep(small_sweep(scratch.path));
  CHECK(result["runs"] == 4);
  REQUIRE(result["sizes"].size() == 2);
  double seconds = 0;
  for (const auto& size : result["sizes"]) {
    CHECK(size["runs"] == 2);
    CHECK(size["processor_seconds"].get<double>() > 0);
    seconds += size["seconds"].get<double>();
  }
  CHECK(result["seconds"].get<double>() == seconds);
  CHECK_FALSE(result.contains("python"));
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
    CHECK(std::abs(whole["seconds"].get<double>() - 2 * size["seconds"].get<double>()) < 1e-9);
    CHECK(whole["times_slower"].get<double>() > 0);
  }
  bench.python_runs = 3;
  CHECK_THROWS_MATCHES(bench_sweep(bench), ConfigError, MessageMatches(ContainsSubstring("1 to 2 runs of each size")));
}

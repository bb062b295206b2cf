#include "train/run_flags.h"

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

namespace {

std::vector<std::string> flags_of(const std::vector<double>& losses) {
  std::vector<Json> rows;
  for (const double loss : losses) rows.push_back({{"step", 10 * (rows.size() + 1)}, {"loss", loss}});
  return run_flags(rows, 65);  // ln 65 = 4.1744
}

}  // namespace

TEST_CASE("run_flags: a loss that falls, or wavers by less than the margins, raises none") {
  CHECK(flags_of({}).empty());
  CHECK(flags_of({4.0, 2.0, 1.5}).empty());
  CHECK(flags_of({1.5, 1.45, 1.54}).empty());
  CHECK(flags_of({4.22}).empty());
}

TEST_CASE("run_flags: worse than a uniform guess is said with ln V") {
  CHECK(flags_of({4.3}) == std::vector<std::string>{"final loss 4.3 is worse than guessing uniformly (ln 65 = 4.174)"});
}

TEST_CASE("run_flags: a final loss above the best is said with both and the best one's step") {
  CHECK(flags_of({3.0, 1.5, 1.75}) ==
        std::vector<std::string>{"final loss 1.75 is 0.25 above the best, 1.5 at step 20"});
  CHECK(flags_of({1.5, 5.0}).size() == 2);
}

#include <catch2/catch_test_macros.hpp>

#include "attention/registry.h"
#include "seen_keys.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

namespace {

/// Blocks of 2 that each block reads, by what its last query sees.
std::vector<std::vector<int64_t>> blocks_seen(Json options, bool causal, int64_t blocks) {
  options["block"] = 2;
  const auto seen = seen_keys("bigbird", options, causal, 2 * blocks);
  std::vector<std::vector<int64_t>> result;
  for (int64_t row = 0; row < blocks; ++row) {
    auto& list = result.emplace_back();
    for (const int64_t i : seen[static_cast<size_t>(2 * row + 1)])
      if (i % 2 == 0) list.push_back(i / 2);
  }
  return result;
}

}  // namespace

TEST_CASE("bigbird: without random blocks, window and global blocks by hand") {
  const Json options = {{"random_blocks", 0}};
  const auto both = blocks_seen(options, false, 8);
  CHECK(both[0] == Seen{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(both[4] == Seen{0, 3, 4, 5, 7});
  CHECK(both[7] == both[0]);
  const auto causal = blocks_seen(options, true, 8);
  CHECK(causal[1] == Seen{0, 1});
  CHECK(causal[7] == Seen{0, 5, 6, 7});
}

TEST_CASE("bigbird: each block reads as many random blocks as asked, others for another seed") {
  const auto with_seed = [](int64_t seed) { return blocks_seen({{"random_blocks", 3}, {"seed", seed}}, true, 24); };
  const auto rows = with_seed(1);
  for (size_t row = 0; row < rows.size(); ++row) {
    const size_t fixed = std::min<size_t>(row + 1, 4);  // block 0 and three of the window
    CHECK(rows[row].size() == std::min(row + 1, fixed + 3));
  }
  CHECK(rows == with_seed(1));
  CHECK(rows != with_seed(2));
  // Which blocks a prefix reads does not depend on what follows.
  const auto shorter = blocks_seen({{"random_blocks", 3}, {"seed", 1}}, true, 12);
  CHECK(std::equal(shorter.begin(), shorter.end(), rows.begin()));
}

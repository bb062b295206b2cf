#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "attention/registry.h"
#include "seen_keys.h"
#include "variant_checks.h"

using namespace attnscale;
using namespace attnscale::testing;

TEST_CASE("block_sparse: a layout says which blocks a block reads, by hand") {
  const auto causal = seen_keys("block_sparse", {{"layout", "100/000/101"}, {"block", 2}}, true, 6);
  CHECK(causal[1] == Seen{0, 1});
  CHECK(causal[2].empty());  // row 1 reads nothing
  CHECK(causal[4] == Seen{0, 1, 4});
  const auto both = seen_keys("block_sparse", {{"layout", "001/110/111"}, {"block", 2}}, false, 5);
  CHECK(both[0] == Seen{4});
  CHECK(both[3] == Seen{0, 1, 2, 3});
  const auto named = seen_keys("block_sparse", {{"layout", "local 2 global 1"}, {"block", 2}}, true, 9);
  CHECK(named[8] == Seen{0, 1, 6, 7, 8});
}

TEST_CASE("block_sparse: executed work is that of the layout's blocks") {
  const auto flops = [](const std::string& layout) {
    const Geometry geometry{.head_dim = 8, .value_dim = 8, .context = 64};
    return variant_named("block_sparse").cost({{"layout", layout}}, geometry, {1, 64, 64}).executed_flops;
  };
  const double block = 2.0 * 16 * 16 * 16;  // two FLOPs, block^2 pairs, D + E
  CHECK(flops("1000/0100/0010/0001") == 4 * block);
  CHECK(flops("1000/1100/1010/1001") == 7 * block);
  CHECK(flops("1000/1100/1110/1111") == 10 * block);
  for (const std::string layout : {"1000/0100/0010/0001", "1000/1100/1010/1001", "1000/0000/1110/1111"}) {
    const Case test{
        .variant = "block_sparse", .options = {{"layout", layout}}, .geometry = {.num_heads = 2, .context = 64}};
    check_flops({test.variant, test.options, {.num_heads = 2, .num_kv_heads = 2, .context = 64}}, 64, 64);
  }
}

TEST_CASE("block_sparse: a layout that cannot be is refused with what would do") {
  const auto refused = [](const std::string& layout, bool causal = true) {
    const Geometry geometry{.context = 64, .causal = causal};
    const auto reasons = refusals(variant_named("block_sparse"), {{"layout", layout}}, geometry);
    return reasons.empty() ? std::string() : reasons.front();
  };
  using Catch::Matchers::ContainsSubstring;
  CHECK_THAT(refused("10/11"), ContainsSubstring("write 4 rows"));
  CHECK_THAT(refused("1000/110/1110/1111"), ContainsSubstring("row 1 has 3 columns"));
  CHECK_THAT(refused("1000/1110/1110/1111"), ContainsSubstring("row 1 reads block 2"));
  CHECK_THAT(refused("dense"), ContainsSubstring("local 3 global 1"));
  CHECK_THAT(refused("local 0"), ContainsSubstring("local 1"));
  CHECK(refused("1000/1110/1110/1111", false).empty());
  CHECK(refused("local 3").empty());
  CHECK(refused("local 3 global 123456").empty());
  for (const auto* layout :
       {"", "local", "local 3 ", "local 3 global", "local 1234567", "global 1", "local 3 global 1 "})
    CHECK_THAT(refused(layout), ContainsSubstring("expected rows of 0 and 1"));
  CHECK_THAT(refused("1000/"), ContainsSubstring("row 0 has 4 columns"));
  // As long as a layout of 1024 blocks: a matcher that recurses over characters runs out of stack.
  CHECK_THAT(refused(std::string(1 << 20, '1')), ContainsSubstring("row 0 has 1048576 columns"));
}

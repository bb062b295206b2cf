#include "scaling/pairing.h"

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

namespace {
Json paired_row(const char* variant, int ffn_dim, int seed) {
  return {{"config",
           {{"model", {{"depth", 2}, {"ffn_dim", ffn_dim}}},
            {"attention", {{"variant", variant}}},
            {"train", {{"seed", seed}}}}}};
}
}  // namespace

TEST_CASE("pairing: variants whose feed-forward width was chosen to match parameters are pairs") {
  const auto keys =
      pair_keys({paired_row("softmax", 128, 0), paired_row("linformer", 122, 0), paired_row("linformer", 122, 1)});
  CHECK(keys[0] == keys[1]);
  CHECK(keys[0] != keys[2]);
}

TEST_CASE("pairing: a feed-forward width that is swept keeps runs apart") {
  const auto keys =
      pair_keys({paired_row("softmax", 128, 0), paired_row("softmax", 64, 0), paired_row("linear", 128, 0)});
  CHECK(keys[0] == keys[2]);
  CHECK(keys[0] != keys[1]);
}

TEST_CASE("pairing: a row without a config has an empty key") { CHECK(pair_keys({Json::object()}).at(0).empty()); }

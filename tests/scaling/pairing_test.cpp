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

TEST_CASE("pairing: what matching moved keeps no runs apart, whichever path it is; what was asked for does") {
  const auto row = [](const char* variant, int depth, int width, int ffn_dim, int seed) {
    return Json{{"config",
                 {{"model", {{"depth", depth}, {"model_dim", width}, {"ffn_dim", ffn_dim}}},
                  {"attention", {{"variant", variant}}},
                  {"train", {{"seed", seed}}}}},
                {"moved", {"model.model_dim"}}};
  };
  const auto keys = pair_keys({row("softmax", 2, 64, 128, 0), row("linformer", 2, 60, 128, 0),
                               row("linformer", 4, 60, 128, 0), row("linformer", 2, 60, 128, 1)});
  CHECK(keys[0] == keys[1]);
  CHECK(keys[0] != keys[2]);
  CHECK(keys[0] != keys[3]);
  // A swept feed-forward width stays in the key though every row has a width of its own.
  const auto swept = pair_keys({row("softmax", 2, 64, 128, 0), row("softmax", 2, 60, 256, 0),
                                row("linformer", 2, 62, 128, 0), row("linformer", 2, 58, 256, 0)});
  CHECK(swept[0] == swept[2]);
  CHECK(swept[1] == swept[3]);
  CHECK(swept[0] != swept[1]);
}

TEST_CASE("pairing: a row without a config has an empty key") { CHECK(pair_keys({Json::object()}).at(0).empty()); }

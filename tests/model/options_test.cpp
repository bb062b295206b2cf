#include "model/options.h"

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

TEST_CASE("model options: what is left out is derived") {
  const auto gelu = resolved({.model_dim = 60, .num_heads = 6}, 65);
  CHECK(gelu.num_kv_heads == 6);
  CHECK(gelu.vocab_size == 65);
  CHECK(gelu.ffn_dim == 240);
  // 8/3 x 60 = 160, a multiple of 8; 8/3 x 64 = 170.67, the next multiple of 8 is 176.
  CHECK(resolved({.model_dim = 60, .feed_forward = "swiglu"}, 65).ffn_dim == 160);
  CHECK(resolved({.model_dim = 64, .feed_forward = "swiglu"}, 65).ffn_dim == 176);
}

TEST_CASE("model options: what is given stays") {
  const auto given = resolved({.num_heads = 4, .num_kv_heads = 2, .vocab_size = 100, .ffn_dim = 7}, 65);
  CHECK(given.num_kv_heads == 2);
  CHECK(given.vocab_size == 100);
  CHECK(given.ffn_dim == 7);
}

TEST_CASE("model options: every option survives JSON, and resolving twice changes nothing") {
  const ModelOptions odd{.depth = 3,
                         .model_dim = 48,
                         .num_heads = 6,
                         .num_kv_heads = 3,
                         .vocab_size = 17,
                         .ffn_dim = 50,
                         .position = "rotary",
                         .norm = "rms_norm",
                         .feed_forward = "swiglu",
                         .bias = false,
                         .tie_embeddings = false,
                         .dropout = 0.25,
                         .norm_epsilon = 1e-6,
                         .rotary_base = 500};
  const auto json = write_options(odd);
  CHECK(json.size() == ModelOptions::fields().size());
  ModelOptions read;
  std::vector<Problem> problems;
  read_options(json, "model", read, problems);
  CHECK(problems.empty());
  CHECK(write_options(read) == json);
  CHECK(write_options(resolved(read, 99)) == json);
}

TEST_CASE("model options: each bound is enforced") {
  const Json wrong = {{"depth", 0},
                      {"model_dim", 0},
                      {"num_heads", 0},
                      {"num_kv_heads", 0},
                      {"vocab_size", 1},
                      {"ffn_dim", 0},
                      {"position", "rotory"},
                      {"norm", "batch_norm"},
                      {"feed_forward", "relu"},
                      {"bias", 1},
                      {"tie_embeddings", "yes"},
                      {"dropout", 1.0},
                      {"norm_epsilon", 0},
                      {"rotary_base", 1}};
  CHECK(wrong.size() == ModelOptions::fields().size());
  for (const auto& [key, value] : wrong.items()) {
    CAPTURE(key);
    ModelOptions read;
    std::vector<Problem> problems;
    read_options(Json{{key, value}}, "model", read, problems);
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].path == "model." + key);
  }
}

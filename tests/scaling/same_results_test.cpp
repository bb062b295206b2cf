#include "scaling/same_results.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Groups = std::vector<std::vector<std::string>>;

TEST_CASE("variants whose losses agree to the last bit wherever both ran are one group") {
  const std::vector<PairedRun> runs = {
      {.variant = "softmax", .key = "0", .loss = 2.5},        {.variant = "softmax", .key = "1", .loss = 2.25},
      {.variant = "linear", .key = "0", .loss = 2.5},         {.variant = "linear", .key = "1", .loss = 2.25 + 1e-15},
      {.variant = "sliding_window", .key = "0", .loss = 2.5}, {.variant = "sliding_window", .key = "1", .loss = 2.25},
      {.variant = "top_k", .key = "1", .loss = 2.25},         {.variant = "top_k", .key = "0", .done = false},
      {.variant = "delta", .key = "2", .loss = 2.5},
  };
  CHECK(variants_of_one_result(runs) == Groups{{"softmax", "sliding_window", "top_k"}});
  const auto notes = one_result_notes(runs);
  REQUIRE(notes.size() == 1);
  CHECK_THAT(notes[0], Catch::Matchers::StartsWith("softmax, sliding_window, top_k have the same losses"));
}

TEST_CASE("runs without a key, and unfinished ones, are of no group") {
  CHECK(
      variants_of_one_result({{.variant = "a", .key = "", .loss = 1}, {.variant = "b", .key = "", .loss = 1}}).empty());
  CHECK(
      variants_of_one_result({{.variant = "a", .key = "0", .done = false}, {.variant = "b", .key = "0", .done = false}})
          .empty());
}

#include "core/nearest.h"

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

TEST_CASE("nearest: distances count inserts, deletes, replacements and swaps of neighbours") {
  CHECK(edit_distance("window", "window") == 0);
  CHECK(edit_distance("windw", "window") == 1);
  CHECK(edit_distance("windowx", "window") == 1);
  CHECK(edit_distance("wimdow", "window") == 1);
  CHECK(edit_distance("widnow", "window") == 1);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
}

TEST_CASE("nearest: every one-letter typo of a known name finds it") {
  const std::vector<std::string> known = {"window", "depth", "num_heads", "num_kv_heads", "learning_rate", "steps"};
  for (const auto& name : known) {
    for (size_t i = 0; i < name.size(); ++i) {
      auto dropped = name;
      dropped.erase(i, 1);
      CHECK(nearest_name(dropped, known) == name);
      auto replaced = name;
      replaced[i] = 'z';
      CHECK(nearest_name(replaced, known) == name);
    }
  }
}

TEST_CASE("nearest: a word far from everything is met with the list") {
  CHECK(nearest_name("zzzzzz", {"depth", "width"}).empty());
  CHECK(suggestion("zzzzzz", {"depth", "width"}) == "; known: depth, width");
}

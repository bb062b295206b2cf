#include <catch2/catch_test_macros.hpp>

#include "sources_for_tests.h"

using namespace attnscale;

TEST_CASE("generated sources: tokens equal those of an independent Python program") {
  // Printed by `python3 tests/data/golden_tokens.py`: training batch 5 of seed 3, validation batch 2.
  struct Golden {
    std::string source;
    std::vector<int64_t> train, validation;
  };
  const std::vector<Golden> golden = {
      {"zipf_memory",
       {0, 1025, 0, 1025, 1, 1037, 0, 1025, 55, 1034, 16, 1029, 18, 1028, 0, 1025, 4, 1029, 11, 1027, 0, 1025, 7, 1025},
       {1, 1037, 0, 1025, 4, 1029, 0, 1035, 1, 1037, 2, 1028, 0, 1025, 1, 1037, 1, 1037, 11, 1027, 3, 1036, 50, 1031}},
      {"hidden_markov",
       {0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1},
       {1, 0, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 2}},
      {"dirichlet",
       {7, 2, 2, 1, 3, 1, 1, 1, 6, 6, 6, 4, 6, 3, 1, 6, 6, 6, 6, 6, 5, 1, 6, 4},
       {7, 2, 0, 7, 4, 3, 0, 0, 1, 3, 0, 4, 3, 0, 1, 3, 0, 4, 3, 0, 5, 7, 4, 3}},
      {"graph_walk",
       {45, 104, 83, 101, 92, 101, 92, 194, 8, 197, 79, 205, 7, 23, 233, 139, 84, 173, 182, 92, 39, 49, 39, 49},
       {194, 250, 206, 246, 206, 250, 96,  131, 244, 198, 129, 200,
        167, 249, 167, 46,  235, 92,  235, 92,  182, 173, 130, 173}},
      {"random_hierarchy",
       {2, 6, 1, 3, 6, 6, 4, 0, 4, 7, 3, 3, 2, 0, 5, 3, 6, 0, 4, 5, 2, 2, 2, 4},
       {7, 2, 2, 4, 1, 4, 4, 5, 6, 0, 1, 3, 7, 0, 4, 7, 0, 6, 6, 4, 6, 6, 4, 1}}};
  for (const auto& [name, train, validation] : golden) {
    INFO(name);
    const auto source = make_source(name);
    CHECK(source->batch(Split::train, 3, 5, 1, 23).tokens == train);
    CHECK(source->batch(Split::validation, 99, 2, 1, 23).tokens == validation);
  }
}

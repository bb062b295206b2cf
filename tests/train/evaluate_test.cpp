#include "train/evaluate.h"

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

TEST_CASE("evaluate: a validation set is rounded up to whole windows, and those to whole batches") {
  // Batches hold about 2,048 tokens: 32 windows of 64.
  CHECK(ValidationSet::num_windows(64, 1) == 1);
  CHECK(ValidationSet::num_windows(64, 65) == 2);
  CHECK(ValidationSet::num_windows(64, 32 * 64) == 32);
  CHECK(ValidationSet::num_windows(64, 32 * 64 + 1) == 64);
  CHECK(ValidationSet::num_windows(5000, 5001) == 2);  // a window longer than a batch is a batch
}

TEST_CASE("evaluate: the most tokens for a number of windows fit, and one more does not") {
  for (const int64_t context : {1, 7, 64, 1000, 5000})
    for (const int64_t windows : {1, 2, 31, 32, 33, 4097}) {
      INFO("context " << context << ", windows " << windows);
      const int64_t most = ValidationSet::most_tokens(context, windows);
      CHECK(ValidationSet::num_windows(context, most) <= windows);
      CHECK(ValidationSet::num_windows(context, most + 1) > windows);
    }
}

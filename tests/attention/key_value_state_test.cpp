#include "attention/key_value_state.h"

#include <vector>

#include <ATen/ATen.h>
#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

TEST_CASE("key-value state: a cache that grows holds what was appended, however it lay") {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    State state{.tensors = {{"key", at::empty({2, 3, 0, 5}, dtype)}, {"value", at::empty({2, 3, 0, 4}, dtype)}}};
    const torch::NoGradGuard no_gradients;
    std::vector<Tensor> keys, values;
    for (const int64_t count : {1, 2, 1, 40, 1, 1}) {
      // As projections put them, and values whose numbers lie apart.
      keys.push_back(at::randn({2, count, 3, 5}).to(dtype).transpose(1, 2));
      values.push_back(at::randn({2, 3, 4, count}).to(dtype).transpose(2, 3));
      const auto in = appended({.query = keys.back(), .key = keys.back(), .value = values.back()}, state);
      CHECK(at::equal(in.key, at::cat(keys, 2)));
      CHECK(at::equal(in.value, at::cat(values, 2)));
    }
    CHECK(state.length == 46);
  }
}

#include "attention/key_value_state.h"

#include <tuple>
#include <vector>

#include <ATen/ATen.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("key-value state: a cache that grows holds what was appended, however it lay") {
  for (const auto& [dtype, rows, heads, copied] :
       std::vector<std::tuple<at::ScalarType, int64_t, int64_t, bool>>{{at::kFloat, 2, 3, false},
                                                                       {at::kBFloat16, 2, 3, true},
                                                                       {at::kDouble, 1, 1, false},
                                                                       {at::kFloat, 1, 1, true}}) {
    CAPTURE(dtype, rows, heads, copied);
    State state{
        .tensors = {{"key", at::empty({rows, heads, 0, 5}, dtype)}, {"value", at::empty({rows, heads, 0, 4}, dtype)}}};
    const torch::NoGradGuard no_gradients;
    std::vector<Tensor> keys, values;
    for (const int64_t count : {1, 2, 1, 40, 1, 1}) {
      // As projections put them, and values whose numbers lie apart.
      keys.push_back(at::randn({rows, count, heads, 5}).to(dtype).transpose(1, 2));
      values.push_back(at::randn({rows, heads, 4, count}).to(dtype).transpose(2, 3));
      const auto in = appended({.query = keys.back(), .key = keys.back(), .value = values.back()}, state);
      CHECK(at::equal(in.key, at::cat(keys, 2)));
      CHECK(at::equal(in.value, at::cat(values, 2)));
      if (copied)  // as a state does that is kept, or of which a window drops what it has left
        for (auto& [name, tensor] : state.tensors) tensor = tensor.clone();
    }
    CHECK(state.length == 46);
  }
}

TEST_CASE(
    "key-value state: what does not continue a cache is refused, and a cache that another holds stays as it was") {
  const torch::NoGradGuard no_gradients;
  State state{.tensors = {{"key", at::empty({1, 2, 0, 4})}, {"value", at::empty({1, 2, 0, 4})}}};
  const auto of = [](at::IntArrayRef sizes) { return at::randn(sizes); };
  const auto good = of({1, 2, 3, 4});
  const auto held = appended({.query = good, .key = good, .value = good}, state);
  for (const auto& bad : {of({2, 2, 1, 4}), of({1, 1, 1, 4}), of({1, 2, 1, 3}), of({1, 2, 1, 9}), of({2, 1, 4})})
    CHECK_THROWS_WITH(appended({.query = bad, .key = bad, .value = bad}, state),
                      ContainsSubstring("does not continue"));
  const auto next = of({1, 2, 1, 4});
  appended({.query = next, .key = next, .value = next}, state);
  CHECK(at::equal(held.key, good));
}

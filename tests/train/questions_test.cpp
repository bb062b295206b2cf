#include "train/questions.h"

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

namespace {

std::vector<int64_t> numbers(const Tensor& tensor) {
  const auto flat = tensor.flatten().contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

}  // namespace

TEST_CASE("questions: the next token's are the window without its first, a reconstruction's without its last") {
  const Batch batch{.rows = 2, .context = 3, .tokens = {1, 2, 3, 4, 5, 6, 7, 8}};
  const auto next = questions_of(batch, {});
  CHECK(numbers(next.inputs) == std::vector<int64_t>{1, 2, 3, 5, 6, 7});
  CHECK(numbers(next.targets) == std::vector<int64_t>{2, 3, 4, 6, 7, 8});
  const auto again = questions_of(batch, {.head = "reconstruct"});
  CHECK(numbers(again.inputs) == std::vector<int64_t>{1, 2, 3, 5, 6, 7});
  CHECK(numbers(again.targets) == std::vector<int64_t>{1, 2, 3, 5, 6, 7});
}

TEST_CASE("questions: what is not asked for does not count") {
  const Batch batch{.rows = 2, .context = 2, .tokens = {1, 2, 3, 4, 5, 6}, .asked = {0, 1, 1, 0}};
  CHECK(numbers(questions_of(batch, {}).targets) == std::vector<int64_t>{not_asked, 3, 5, not_asked});
  CHECK(numbers(questions_of(batch, {.head = "reconstruct"}).targets) ==
        std::vector<int64_t>{not_asked, 2, 4, not_asked});
}

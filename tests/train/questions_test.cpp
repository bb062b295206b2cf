#include "train/questions.h"

#include <algorithm>
#include <cmath>

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
  const auto next = questions_of(batch, {}, 0);
  CHECK(numbers(next.inputs) == std::vector<int64_t>{1, 2, 3, 5, 6, 7});
  CHECK(numbers(next.targets) == std::vector<int64_t>{2, 3, 4, 6, 7, 8});
  const auto again = questions_of(batch, {.head = "reconstruct"}, 0);
  CHECK(numbers(again.inputs) == std::vector<int64_t>{1, 2, 3, 5, 6, 7});
  CHECK(numbers(again.targets) == std::vector<int64_t>{1, 2, 3, 5, 6, 7});
}

TEST_CASE("questions: what is not asked for does not count") {
  const Batch batch{.rows = 2, .context = 2, .tokens = {1, 2, 3, 4, 5, 6}, .asked = {0, 1, 1, 0}};
  CHECK(numbers(questions_of(batch, {}, 0).targets) == std::vector<int64_t>{not_asked, 3, 5, not_asked});
  CHECK(numbers(questions_of(batch, {.head = "reconstruct"}, 0).targets) ==
        std::vector<int64_t>{not_asked, 2, 4, not_asked});
}

TEST_CASE("questions: a classifier's is the last token") {
  const Batch batch{.rows = 2, .context = 3, .tokens = {1, 2, 3, 4, 5, 6, 7, 8}, .asked = {0, 0, 1, 0, 0, 1}};
  const auto questions = questions_of(batch, {.head = "classify"}, 0);
  CHECK(numbers(questions.inputs) == std::vector<int64_t>{1, 2, 3, 5, 6, 7});
  CHECK(numbers(questions.targets) == std::vector<int64_t>{4, 8});
}

TEST_CASE("questions: of the chosen inputs 8 in 10 show the mask, 1 a random token and 1 themselves (Devlin et al.)") {
  const auto model = resolved({.head = "masked_token", .mask_probability = 0.3}, 50);
  REQUIRE(*model.vocab_size == 51);
  Batch batch{.rows = 400, .context = 20};
  for (int64_t i = 0; i < 400 * 21; ++i) batch.tokens.push_back(i % 50);
  const auto questions = questions_of(batch, model, 7);
  const auto shown = numbers(questions.inputs), asked = numbers(questions.targets);
  int64_t hidden = 0, other = 0, same = 0;
  for (int64_t row = 0; row < 400; ++row) {
    int64_t chosen = 0;
    for (int64_t t = 0; t < 20; ++t) {
      const int64_t token = batch.tokens[row * 21 + t], at = row * 20 + t;
      if (asked[at] == not_asked) {
        CHECK(shown[at] == token);
        continue;
      }
      ++chosen;
      CHECK(asked[at] == token);
      (shown[at] == 50 ? hidden : shown[at] == token ? same : other)++;
    }
    CHECK(chosen == 6);
  }
  // 2400 draws of 8/10 and 1/10 (a random token is the same one in 50): deviations 19.6 and 14.7; five of them.
  CHECK(std::abs(hidden - 1920) < 98);
  CHECK(std::abs(other - 235) < 74);
  CHECK(std::abs(same - 245) < 74);
  CHECK(numbers(questions_of(batch, model, 7).inputs) == shown);
  CHECK(numbers(questions_of(batch, model, 8).inputs) != shown);
  CHECK(numbers(training_questions(batch, model, 1, 2).inputs) ==
        numbers(training_questions(batch, model, 1, 2).inputs));
  CHECK(numbers(training_questions(batch, model, 1, 2).inputs) !=
        numbers(training_questions(batch, model, 1, 3).inputs));
  CHECK(numbers(training_questions(batch, model, 1, 2).inputs) !=
        numbers(training_questions(batch, model, 2, 2).inputs));
  // The least: one input.
  auto rarely = model;
  rarely.mask_probability = 0.001;
  const auto least = numbers(questions_of(batch, rarely, 7).targets);
  CHECK(std::count(least.begin(), least.end(), not_asked) == 400 * 19);
}

TEST_CASE("questions: a decoder's are the tokens after the encoder's input") {
  const Batch batch{.rows = 1, .context = 5, .tokens = {1, 2, 3, 4, 5, 6}};
  const auto questions = questions_of(batch, {.head = "encoder_decoder", .input_length = 3}, 0);
  CHECK(numbers(questions.inputs) == std::vector<int64_t>{1, 2, 3, 4, 5});
  CHECK(numbers(questions.targets) == std::vector<int64_t>{4, 5, 6});
}

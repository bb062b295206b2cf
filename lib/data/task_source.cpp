#include "data/task_source.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "data/generated_source.h"

namespace attnscale {

Batch TaskSource::batch(Split split, uint64_t seed, int64_t index, int64_t rows, int64_t context) const {
  check_batch_request(index, rows, context);
  auto random = window_stream(split, seed, index);
  Batch batch{.rows = rows, .context = context};
  batch.tokens.resize(static_cast<size_t>(rows * (context + 1)));
  batch.asked.resize(static_cast<size_t>(rows * context));
  batch.distances.resize(static_cast<size_t>(rows * context));
  for (int64_t row = 0; row < rows; ++row) {
    TaskWindow window(batch.tokens.data() + row * (context + 1), batch.asked.data() + row * context,
                      batch.distances.data() + row * context, context + 1);
    draw_window(random, window);
  }
  const bool told = std::any_of(batch.distances.begin(), batch.distances.end(), [](int64_t d) { return d > 0; });
  if (!told) batch.distances.clear();
  return batch;
}

std::vector<double> TaskSource::bayes_log_probabilities(const Batch& batch) const {
  check_batch(batch, vocab_size());
  return std::vector<double>(static_cast<size_t>(batch.rows * batch.context), 0.0);
}

std::optional<Truth> TaskSource::truth(int64_t context) const {
  check_batch_request(0, 1, context);
  return Truth{.entropy_rate = 0,
               .bayes_loss = 0,
               .bayes_loss_error = 0,
               .derivation = fmt::format("every answer follows from the tokens before it; {} answers are equally "
                                         "likely before reading",
                                         num_answers()),
               .chance_accuracy = 1.0 / static_cast<double>(num_answers()),
               .bayes_accuracy = 1.0};
}

std::vector<int64_t> draw_distinct(Random& random, int64_t count, int64_t limit) {
  // A shuffle of 0 .. limit - 1 that is stopped early and keeps only what has moved.
  std::unordered_map<int64_t, int64_t> moved;
  const auto at = [&](int64_t i) {
    const auto found = moved.find(i);
    return found == moved.end() ? i : found->second;
  };
  std::vector<int64_t> drawn;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t j = i + static_cast<int64_t>(random.below(static_cast<uint64_t>(limit - i)));
    drawn.push_back(at(j));
    moved[j] = at(i);
  }
  return drawn;
}

}  // namespace attnscale

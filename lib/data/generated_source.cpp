#include "data/generated_source.h"

#include "core/hash.h"

namespace attnscale {

Random window_stream(Split split, uint64_t seed, int64_t index) {
  const auto number = static_cast<uint64_t>(index);
  return Random(split == Split::train ? stream_seed(seed, "data/train", number)
                                      : stream_seed(0, "data/validation", number));
}

Batch GeneratedSource::batch(Split split, uint64_t seed, int64_t index, int64_t rows, int64_t context) const {
  check_batch_request(index, rows, context);
  auto random = window_stream(split, seed, index);
  Batch batch{.rows = rows, .context = context, .tokens = std::vector<int64_t>(rows * (context + 1))};
  for (int64_t row = 0; row < rows; ++row) draw_window(random, batch.tokens.data() + row * (context + 1), context + 1);
  return batch;
}

std::vector<double> GeneratedSource::bayes_log_probabilities(const Batch& batch) const {
  check_batch(batch, vocab_size());
  std::vector<double> scores(batch.rows * batch.context);  // [R, T]
  for (int64_t row = 0; row < batch.rows; ++row)
    score_window(batch.tokens.data() + row * (batch.context + 1), batch.context + 1,
                 scores.data() + row * batch.context);
  return scores;
}

std::optional<Truth> GeneratedSource::truth(int64_t context) const {
  check_batch_request(0, 1, context);
  const std::lock_guard lock(mutex_);
  const auto found = truths_.find(context);
  if (found != truths_.end()) return found->second;
  return truths_.emplace(context, find_truth(context)).first->second;
}

}  // namespace attnscale

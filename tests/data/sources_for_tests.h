#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "data/dirichlet_statistics.h"
#include "data/registry.h"

namespace attnscale {

inline std::shared_ptr<const Source> make_source(const std::string& name, const Json& options = Json::object()) {
  return source_named(name).make(options);
}

/// Mean over windows of a window's mean Bayes loss, with the standard error from the windows' spread.
inline Estimate sampled_bayes_loss(const Source& source, int64_t windows, int64_t context) {
  const Batch batch = source.batch(Split::train, 1, 0, windows, context);
  const auto scores = source.bayes_log_probabilities(batch);  // [R, T]
  Estimate estimate;
  for (int64_t row = 0; row < windows; ++row) {
    double loss = 0;
    for (int64_t t = 0; t < context; ++t) loss -= scores[row * context + t];
    estimate.add(loss / static_cast<double>(context));
  }
  return estimate;
}

/// Every word of `length` tokens over a small vocabulary, as one batch with context length - 1.
inline Batch all_words(int64_t vocab_size, int64_t length) {
  Batch batch{.rows = static_cast<int64_t>(std::llround(std::pow(vocab_size, length))), .context = length - 1};
  for (int64_t word = 0; word < batch.rows; ++word)
    for (int64_t at = 0, rest = word; at < length; ++at, rest /= vocab_size) batch.tokens.push_back(rest % vocab_size);
  return batch;
}

/// Index of a window in `all_words`.
inline int64_t word_index(const int64_t* tokens, int64_t vocab_size, int64_t length) {
  int64_t index = 0;
  for (int64_t at = length; at-- > 0;) index = index * vocab_size + tokens[at];
  return index;
}

/// Largest distance of an observed frequency from its probability, in binomial standard errors. Words of
/// probability 0 must not be seen at all: they count as infinitely far.
inline double worst_deviation(const std::vector<int64_t>& counts, const std::vector<double>& probabilities,
                              int64_t draws) {
  double worst = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double p = probabilities[i], frequency = static_cast<double>(counts[i]) / static_cast<double>(draws);
    if (p <= 0 && counts[i] == 0) continue;
    worst = std::max(worst, std::abs(frequency - p) / std::sqrt(p * (1 - p) / static_cast<double>(draws)));
  }
  return worst;
}

/// Counts of every word among the windows of one large training batch.
inline std::vector<int64_t> word_counts(const Source& source, int64_t windows, int64_t length) {
  const Batch batch = source.batch(Split::train, 5, 3, windows, length - 1);
  std::vector<int64_t> counts(static_cast<size_t>(std::llround(std::pow(source.vocab_size(), length))));
  for (int64_t row = 0; row < windows; ++row)
    ++counts[word_index(batch.tokens.data() + row * length, source.vocab_size(), length)];
  return counts;
}

}  // namespace attnscale

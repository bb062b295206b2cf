#pragma once

#include <map>
#include <mutex>

#include "data/random.h"
#include "data/source.h"

namespace attnscale {

/// The stream that a batch's windows are drawn from: by (seed, split, index) for training, by index alone for
/// validation, which must be the same for every seed of a sweep.
Random window_stream(Split split, uint64_t seed, int64_t index);

/// A source whose windows are independent draws of a known process.
///
/// A batch draws its rows one after another from one stream, seeded by (seed, split, index): the
/// first rows of a larger batch are those of a smaller one.
class GeneratedSource : public Source {
 public:
  Batch batch(Split split, uint64_t seed, int64_t index, int64_t rows, int64_t context) const final;

  std::vector<double> bayes_log_probabilities(const Batch& batch) const final;

  /// Found once per context and kept: some sources need tenths of a second.
  std::optional<Truth> truth(int64_t context) const final;

 protected:
  virtual Truth find_truth(int64_t context) const = 0;

  /// Draws one window of `length` = T + 1 tokens.
  virtual void draw_window(Random& random, int64_t* tokens, int64_t length) const = 0;

  /// ln probability of tokens[1 .. length - 1], each given all tokens before it in the window.
  virtual void score_window(const int64_t* tokens, int64_t length, double* log_probabilities) const = 0;

 private:
  mutable std::mutex mutex_;
  mutable std::map<int64_t, Truth> truths_;  // by context
};

}  // namespace attnscale

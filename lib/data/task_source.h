#pragma once

#include <string>
#include <vector>

#include "data/random.h"
#include "data/source.h"

namespace attnscale {

/// One window of a task while it is drawn: `length` = T + 1 tokens, of which some are answers.
class TaskWindow {
 public:
  TaskWindow(int64_t* tokens, uint8_t* asked, int64_t* distances, int64_t length)
      : tokens_(tokens), asked_(asked), distances_(distances), length_(length) {}

  int64_t length() const { return length_; }
  int64_t& operator[](int64_t position) { return tokens_[position]; }

  /// Puts an answer, which the model is asked for.
  /// @param position  from 1 on: the first token is never a target
  /// @param told_at   position of the token that tells it; itself where no single one does
  void ask(int64_t position, int64_t answer, int64_t told_at) {
    tokens_[position] = answer;
    asked_[position - 1] = 1;
    distances_[position - 1] = position - told_at;
  }

  /// Asks for an input again, of a model that reconstructs. @param position  below the last input's
  void ask_again(int64_t position) {
    asked_[position] = 1;
    distances_[position] = length_ - 2 - position;
  }

 private:
  int64_t* tokens_;
  uint8_t* asked_;
  int64_t* distances_;
  int64_t length_;
};

/// A generated task: windows of which some targets are questions with one right answer, determined by
/// the tokens before it. So the Bayes loss over asked targets is 0 and the Bayes accuracy 1, unless a task
/// says otherwise.
///
/// Streams are seeded as in GeneratedSource: training windows by (seed, index), validation by index alone.
class TaskSource : public Source {
 public:
  /// Hiding an input would hide what an answer follows from.
  static std::vector<std::string> heads() { return {"next_token"}; }

  Batch batch(Split split, uint64_t seed, int64_t index, int64_t rows, int64_t context) const final;

  /// Zero at every target: what is asked for is determined, what is not does not count.
  std::vector<double> bayes_log_probabilities(const Batch& batch) const override;

  std::optional<Truth> truth(int64_t context) const override;

 protected:
  virtual void draw_window(Random& random, TaskWindow& window) const = 0;

  /// Answers that are equally likely before anything is read.
  virtual int64_t num_answers() const = 0;
};

/// Heads of a task whose one question is its window's last token.
inline std::vector<std::string> heads_of_one_answer() { return {"next_token", "classify"}; }

/// `count` different numbers below `limit`, in random order (Fisher and Yates; O(count) expected).
std::vector<int64_t> draw_distinct(Random& random, int64_t count, int64_t limit);

}  // namespace attnscale

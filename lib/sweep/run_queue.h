#pragma once

#include <algorithm>
#include <deque>

namespace attnscale {

/// Runs that nobody does yet. They leave in the order in which they came, so that the small runs of a plan show
/// something early, but for the last ones: of those the longest goes first (Graham 1969, "Bounds on multiprocessing
/// timing anomalies", section 5), or it would be done alone at the end while all other workers have nothing to do.
template <class Run>
class RunQueue {
 public:
  /// @param workers  of this process: others in the folder are not known of @param in_order  whether the last ones,
  /// too, leave as they came
  RunQueue(int workers, bool in_order) : workers_(std::max(1, workers)), in_order_(in_order) {}

  /// @param work  in a unit that all share, more than 0
  void add(const Run& run, double work) {
    waiting_.push_back({&run, work});
    work_ += work;
    longest_ = std::max(longest_, work);
  }

  bool empty() const { return waiting_.empty(); }
  size_t size() const { return waiting_.size(); }
  double work() const { return work_; }  ///< of all that wait
  void clear() { *this = RunQueue(workers_, in_order_); }

  /// The next run; there must be one. Cost: O(1), towards the end O(size()).
  const Run& take() {
    size_t next = 0;
    if (!in_order_ && is_end()) {
      next = longest();
      longest_ = waiting_[next].work;  // the others' are no longer
      if (!is_end()) next = 0;
    }
    const auto taken = waiting_[next];
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(next));
    work_ -= taken.work;
    return *taken.run;
  }

 private:
  struct Waiting {
    const Run* run;
    double work;
  };

  /// Whether what waits is so little that the longest run, begun last, could be what all wait for.
  bool is_end() const {
    constexpr double rounds = 3;
    return work_ <= rounds * workers_ * longest_;
  }

  size_t longest() const {
    const auto shorter = [](const Waiting& a, const Waiting& b) { return a.work < b.work; };
    return static_cast<size_t>(std::max_element(waiting_.begin(), waiting_.end(), shorter) - waiting_.begin());
  }

  int workers_;
  bool in_order_;
  std::deque<Waiting> waiting_;
  double work_ = 0;     ///< of all
  double longest_ = 0;  ///< no run that waits is longer
};

}  // namespace attnscale

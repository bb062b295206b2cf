#pragma once

#include <cstdint>
#include <vector>

// Random numbers whose bits are the same with every compiler and library. The distributions of
// <random> are not: their algorithms are left to the implementation.

namespace attnscale {

/// SplitMix64: a counter passed through a 64-bit mixing function, period 2^64.
///
/// Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 14.
/// Seed it with `stream_seed` (core/hash.h), whose SHA-256 keeps streams apart.
class Random {
 public:
  explicit Random(uint64_t seed) : counter_(seed) {}

  uint64_t next() {
    counter_ += 0x9e3779b97f4a7c15;
    uint64_t mixed = counter_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

  /// Uniform whole number in [0, count), `count` > 0; unbiased (draws that would not divide evenly
  /// are thrown away).
  uint64_t below(uint64_t count) {
    const uint64_t remainder = (UINT64_MAX % count + 1) % count;
    uint64_t drawn = next();
    while (drawn > UINT64_MAX - remainder) drawn = next();
    return drawn % count;
  }

 private:
  uint64_t counter_;
};

/// A fixed distribution over 0 .. n - 1, drawn by binary search in its cumulative sums: O(ln n).
class Categorical {
 public:
  /// @param weights  not negative, at least one positive; need not sum to one
  explicit Categorical(const std::vector<double>& weights);

  int64_t draw(Random& random) const;

  /// ln probability of each outcome; -infinity where the weight is 0.
  const std::vector<double>& log_probabilities() const { return log_probabilities_; }

  /// Nats.
  double entropy() const;

 private:
  std::vector<double> cumulative_, log_probabilities_;
};

}  // namespace attnscale

#pragma once

#include <cstdint>
#include <string>

#include "core/json.h"

namespace attnscale {

struct SelfTestOptions {
  int sweeps = 1000;     ///< simulated for each source
  uint64_t seed = 0;     ///< of the simulation; the same seed gives the same document
  int replicates = 300;  ///< of the bootstrap, where it makes the intervals
  double delta = 1e-3;   ///< Huber's, in ln L
  int jobs = 2;          ///< threads; the result does not depend on them
};

/// Whether the fits can be believed: sweeps of known laws are simulated (no training), and fitted, tested and compared
/// by the very functions that reports use.
///
///   {"schema": "attnscale.self-test/1", "sweeps", "seed", "replicates", "sources": [{"source", "cells", "seeds",
///     "method", "coverage": {"E", "alpha", "beta", "N", "N_10x"}, "median_width": the same, "no_interval",
///     "same_optimum": [agreeing, tried], "lack_of_fit"?: {"true_law", "threshold", "coupling"},
///     "comparison": {"equal", "different"}}], "criteria": [{"id", "text", "passed"}], "passed"}
///
/// All numbers in `coverage`, `lack_of_fit` and `comparison` are shares of the sweeps. `coverage` is that of nominal
/// 95 % intervals; an interval that could not be given counts as a miss. `N` is the compute-optimal size at the largest
/// run's compute, `N_10x` at ten times that. `lack_of_fit` has how often its test at 5 % rejects the law that is true
/// and two that are not. `comparison` has how often a variant that is equal, and one that is worse by four times the
/// seeds' noise, is called different (Holm, at 5 %); equal ones are ten pairs a sweep, so that the share is known to a
/// few tenths of a percent (over 20,000 pairs of each source it is 4.7 to 5.1 %, where one pair a sweep showed up to 6
/// %).
///
/// Fits start at the truth, which is their optimum but for noise; on the first sweeps of each source the search from
/// all starts must end at the same place.
/// Cost: about 40 s of one core for 1,000 sweeps.
Json self_test(const SelfTestOptions& options = {});

/// The verdicts on `sources`, as self_test fills them: intervals must cover 92 to 98 %, the test at 5 % reject the true
/// law in 3 to 7 %; with few sweeps also what chance gives a method that is exact in more than one of a thousand tests
/// on each side (exact binomial), as with the 5 % of equal variants.
Json self_test_criteria(const Json& sources, int sweeps);

/// As a table, ending with one line per criterion.
std::string self_test_text(const Json& result);

}  // namespace attnscale

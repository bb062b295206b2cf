#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// How much worse than a uniform guess, in nats per token, a final loss must be to be flagged. A uniform guess costs
/// exactly ln V on every token, so only the run's own loss is uncertain: with a standard deviation of at most about
/// one nat per token, a validation set of 4,096 tokens puts 0.05 beyond three standard errors.
inline constexpr double uniform_margin = 0.05;

/// How far above its best evaluation, in nats per token, a final loss must be to be flagged. All evaluations of a run
/// see the same tokens and the last comes at the schedule's lowest rate, so a healthy run ends at its best or within
/// the noise of a few updates; 0.1 is 10 % of perplexity, more than seeds usually differ by.
inline constexpr double best_margin = 0.1;

/// Doubts about a run that ended with finite numbers: sentences, none for a healthy run. A run whose numbers left the
/// finite is `diverged` and needs none.
/// @param evaluations  rows of the log, in order, with `step` and `loss`
/// @param num_symbols  tokens that the data can hold: the V of a uniform guess
std::vector<std::string> run_flags(const std::vector<Json>& evaluations, int64_t num_symbols);

}  // namespace attnscale

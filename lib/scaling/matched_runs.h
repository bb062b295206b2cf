#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "scaling/comparison.h"

namespace attnscale {

/// What variants can be compared at after training: `flops` (executed), `seconds` (of the run), `state_bytes`,
/// `parameters`.
const std::vector<std::string>& matched_quantities();

/// Runs as compare_all takes them, one for each variant and seed: the lower frontier of loss against `quantity`,
/// straight in its logarithm between runs, is read at amounts that are common to all, evenly spaced in the logarithm,
/// and their mean is the loss. There are as many amounts as the shortest frontier has runs in the common range, less
/// one and at most six. Seeds are the sample: amounts of one frontier share runs, and counting each of them as a size
/// calls equal variants different in 10 % of sweeps (tried).
/// @param rows    finished rows, each at its variant's own learning rate [R]
/// @param labels  their variants [R]
/// @throws DataError where rows lack the quantity, or no amount is common to all variants, with the range of each
std::vector<PairedRun> runs_at_matched(const std::vector<Json>& rows, const std::vector<std::string>& labels,
                                       const std::string& quantity);

/// The losses of runs that share a key dealt out among their variants at random: what is left is chance.
std::vector<PairedRun> with_shuffled_labels(std::vector<PairedRun> runs, uint64_t seed);

/// In how many of `permutations` shuffles any pair is shown to differ, as a share: near 5 % or below for a sound
/// method.
double share_shown_when_shuffled(const std::vector<PairedRun>& runs, uint64_t seed, int permutations);

}  // namespace attnscale

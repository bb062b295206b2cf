#pragma once

#include <string>
#include <vector>

#include "scaling/comparison.h"

namespace attnscale {

/// Variants whose losses are the same to the last bit in every pair of finished runs, of which there is one at least: a
/// window at least as long as the context, or k of top_k as large, is full attention, and no comparison of the two says
/// anything. @return groups of two or more, each in order of first appearance
std::vector<std::vector<std::string>> variants_of_one_result(const std::vector<PairedRun>& runs);

/// The groups in words that say what to change, one line each.
std::vector<std::string> one_result_notes(const std::vector<PairedRun>& runs);

}  // namespace attnscale

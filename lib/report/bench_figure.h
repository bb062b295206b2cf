#pragma once

#include "report/figures.h"

namespace attnscale {

/// What `attnscale bench attention --json` found, as one picture with a row for each variant: from which length on it
/// is faster than softmax, and its time and memory at the longest length, as multiples of softmax's.
/// @param bench  with softmax among its variants
/// @throws ConfigError where softmax was not timed, since everything is shown against it
Figure attention_cost_figure(const Json& bench);

}  // namespace attnscale

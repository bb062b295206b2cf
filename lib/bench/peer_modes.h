#pragma once

#include <string>
#include <vector>

#include "bench/timing.h"

namespace attnscale {

/// How often a mode of PyTorch (`eager bfloat16`) took for a piece of work.
struct PeerMode {
  std::string name;
  Timing time;
};

/// What PyTorch's modes took beside ours.
/// @param modes  one or more, timed in turns with `ours`, as many times or more
/// @param unit   under which name a mode's times stand: `step_time_ms`
/// @return {modes: [{mode, UNIT, times_slower: {median, low, high, confidence}}], best}: times_slower is of pairs of
///         times taken one after the other, best the mode with the lowest median
Json modes_beside(const std::vector<PeerMode>& modes, const Timing& ours, const char* unit);

}  // namespace attnscale

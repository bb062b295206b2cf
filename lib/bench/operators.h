#pragma once

#include <functional>

#include "bench/timing.h"

namespace attnscale {

/// Where the time of some work goes: that of each operator which the dispatcher sees, and of this program's kernels,
/// without the operators that it calls itself. What is left is the work of nobody: C++ around operators, autograd,
/// data. Watching costs about a microsecond an operator, which counts as the operator's.
/// @param work  called `times` times after one call that is not watched
/// @return {ms, operators: [{operator, calls, ms, share}]}, each of one call of `work`, the longest first; `rest` is
///         the last
Json operator_times(const std::function<void()>& work, int times, Clock clock);

}  // namespace attnscale

#pragma once

#include <vector>

#include "model/options.h"

namespace attnscale {

/// Options of a model that are not at their defaults and would change nothing beside the others, or contradict them: an
/// option is never read and ignored. Paths are those of a run's configuration, `model.rotary_base`.
/// @param options  resolved
std::vector<Problem> idle_options(const ModelOptions& options);

}  // namespace attnscale

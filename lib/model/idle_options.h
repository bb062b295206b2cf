#pragma once

#include <vector>

#include "model/options.h"

namespace attnscale {

/// Options of a model that contradict each other, or would together change nothing: those off their default that a
/// field's own condition (Field::only_with) says are without effect, and what such a condition cannot say. Paths are
/// those of a run's configuration, `model.final_norm`.
/// @param options  resolved
std::vector<Problem> idle_options(const ModelOptions& options);

}  // namespace attnscale

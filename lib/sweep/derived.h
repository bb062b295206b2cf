#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// Replaces derived values of a run's config, texts that begin with `=` such as `"= 4 * model_dim"`, by what they come
/// to (core/expression.h). A name is a path of the config (`data.context`), or an option of the same section
/// (`model_dim` beside `model.ffn_dim`), or the one option anywhere that is called so; where the config does not give
/// it, its default counts. Derived values may depend on each other, not in a circle. `none` leaves an option out.
/// @param problems  at the paths of the derived values: what could not be read, an unknown name with the nearest, an
///                  option whose default is itself derived from others, a circle
void derive_values(Json& config, std::vector<Problem>& problems);

/// Whether a value is such a text, or an object with one inside.
bool is_derived(const Json& value);

/// Whether a derived value in this may name a seed.
bool mentions_seed(const Json& value);

}  // namespace attnscale

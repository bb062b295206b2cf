#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// What two runs must agree in to be paired when variants are compared, one key per row: the whole config but the
/// attention. Where the feed-forward width only serves to match the parameters of variants (no two rows differ in it
/// alone) it is left out too.
/// @param rows  with `config`; a row without one has an empty key
std::vector<std::string> pair_keys(const std::vector<Json>& rows);

}  // namespace attnscale

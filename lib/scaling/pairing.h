#pragma once

#include <set>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// Config paths that the spec's `match` moved to bring runs to equal size, over all rows (their `moved`): they say what
/// a variant needed, not what was asked for.
std::set<std::string> moved_paths(const std::vector<Json>& rows);

/// What two runs must agree in to be paired when variants are compared, one key per row: the whole config but the
/// attention and what matching moved. Where the feed-forward width only serves to match the parameters of variants (no
/// two rows differ in it alone: widths chosen by hand, folders of older versions) it is left out too.
/// @param rows  with `config`, as read_result_rows gives them; a row without one has an empty key
std::vector<std::string> pair_keys(const std::vector<Json>& rows);

}  // namespace attnscale

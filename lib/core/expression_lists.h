#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// Whether an expression's function takes a list: first, last, mean, part, slope.
bool is_list_function(const std::string& name);

/// first(list), last(list); mean(list); part(list, from, to): the items from `from` up to before `to`, counted from 0,
/// below 0 from the end; slope(list): of the least-squares line through (0, item 0), (1, item 1), ... Of no list, of a
/// list without items (slope: with one), and where an item is none, none.
/// @throws ConfigError for what is no list, and for items that are no numbers
Json list_function(const std::string& name, const std::vector<Json>& values);

}  // namespace attnscale

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace attnscale {

/// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`. Cost O(|a| |b|).
int edit_distance(std::string_view a, std::string_view b);

/// The known name nearest to a misspelt one; empty when none is near enough to be meant.
std::string nearest_name(std::string_view misspelt, const std::vector<std::string>& known);

/// `; did you mean "window"?` when some known name is near, otherwise `; known: a, b, c`.
std::string suggestion(std::string_view misspelt, const std::vector<std::string>& known);

}  // namespace attnscale

#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// Where the value at a dotted path stands; nullptr where there is none.
const Json* find_path(const Json& object, const std::string& path);

/// The value at a dotted path, or null.
const Json& at_path(const Json& object, const std::string& path);
std::optional<double> number_at(const Json& object, const std::string& path);  ///< nothing unless a finite number
std::string text_at(const Json& object, const std::string& path);              ///< "" for null, JSON unless a text

/// Takes out what stands at a dotted path, if anything does.
void erase_path(Json& object, const std::string& path);

/// `learning_rate` of `train.learning_rate`.
std::string last_part(const std::string& path);

/// Leaves of nested objects by dotted path, in the order of the file; lists are leaves.
std::vector<std::pair<std::string, Json>> flatten(const Json& object, const std::string& prefix = "");

/// path -> [first, second] of the leaves that differ, null where one has none: first those of `first`, in its order.
Json differing_leaves(const Json& first, const Json& second);

}  // namespace attnscale

#pragma once

#include <string>

#include "core/options.h"

namespace attnscale {

/// Refuses the value of an option that has no effect beside the others. @param path  of the options
Problem idle_option(const Field& field, const std::string& path, const Json& value);

}  // namespace attnscale

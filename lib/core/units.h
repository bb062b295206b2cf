#pragma once

#include <string>

namespace attnscale {

/// `1.23M`: a count with a decimal prefix, three significant digits.
std::string count_text(double count);

/// `1.5 MiB`
std::string bytes_text(int64_t bytes);

/// `1m20s`, `3.2s`, `2h05m`
std::string duration_text(double seconds);

}  // namespace attnscale

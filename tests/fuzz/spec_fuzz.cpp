// The reader of specs: any bytes are a sweep's axes or a message, whose every line has its place in the text.

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdlib>

#include "sweep/spec.h"

namespace {

/// Counts above 9999: axes of that many points are right, and only slow.
bool has_long_number(std::string_view text) {
  size_t digits = 0;
  for (const char c : text) {
    digits = std::isdigit(static_cast<unsigned char>(c)) ? digits + 1 : 0;
    if (digits > 4) return true;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (has_long_number(text)) return -1;
  try {
    const auto spec = attnscale::spec_of(attnscale::parse_json(text, "fuzz"), {"model.depth=4"});
    if (spec.name.empty() || spec.name.find('/') != std::string::npos) std::abort();
    for (const auto& axis : spec.axes) {
      if (axis.points.size() != axis.where.size()) std::abort();
      for (const auto& point : axis.points)
        if (point.size() != axis.paths.size()) std::abort();
    }
  } catch (const attnscale::ConfigError& error) {
    const std::string_view message = error.what();
    if (!message.starts_with("fuzz:") && !message.starts_with("--set")) std::abort();
  }
  return 0;
}

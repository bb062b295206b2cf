#include "core/units.h"

#include <cmath>

#include <fmt/format.h>

namespace attnscale {

std::string count_text(double count) {
  static const char* prefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  int step = 0;
  while (std::abs(count) >= 999.5 && step < 6) count /= 1000, ++step;
  return step == 0 && count == std::floor(count) ? fmt::format("{:.0f}", count)
                                                 : fmt::format("{:.3g}{}", count, prefixes[step]);
}

std::string bytes_text(int64_t bytes) {
  static const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int step = 0;
  while (value >= 1023.5 && step < 4) value /= 1024, ++step;
  return fmt::format("{:.{}f} {}", value, step == 0 || value >= 100 ? 0 : 1, units[step]);
}

std::string duration_text(double seconds) {
  if (seconds < 59.5) return seconds < 9.95 ? fmt::format("{:.1f}s", seconds) : fmt::format("{:.0f}s", seconds);
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
}

}  // namespace attnscale

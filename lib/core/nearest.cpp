#include "core/nearest.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace attnscale {

int edit_distance(std::string_view a, std::string_view b) {
  // Three rows of the Damerau-Levenshtein table (optimal string alignment).
  std::vector<int> before_last, last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
    before_last = last;
    last = row;
  }
  return last[b.size()];
}

std::string nearest_name(std::string_view misspelt, const std::vector<std::string>& known) {
  std::string best;
  int best_distance = std::max<int>(1, static_cast<int>(misspelt.size()) / 3) + 1;
  for (const auto& name : known) {
    const int distance = edit_distance(misspelt, name);
    if (distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  return best;
}

std::string suggestion(std::string_view misspelt, const std::vector<std::string>& known) {
  const auto name = nearest_name(misspelt, known);
  if (!name.empty()) return fmt::format("; did you mean \"{}\"?", name);
  return fmt::format("; known: {}", fmt::join(known, ", "));
}

}  // namespace attnscale

// Which points of a table depend on each other.

#include <map>
#include <numeric>

#include <fmt/format.h>

#include "scaling/table.h"

namespace attnscale {

std::vector<int> independent_groups(const std::vector<Point>& points) {
  std::vector<int> parent(points.size());
  std::iota(parent.begin(), parent.end(), 0);
  const auto root = [&](int i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  std::map<std::string, int> first;
  const auto link = [&](const std::string& key, int i) {
    const auto [found, is_new] = first.emplace(key, i);
    if (!is_new) parent[root(i)] = root(found->second);
  };
  for (int i = 0; i < static_cast<int>(points.size()); ++i) {
    const auto& point = points[i];
    if (!point.run.empty()) link("run " + point.run, i);
    link(point.cell.empty()
             ? fmt::format("cell {} {} {} {} {} {}", point.variant, point.N, point.D, point.width, point.depth, point.U)
             : "cell " + point.cell,
         i);
  }
  std::map<int, int> number;
  std::vector<int> groups;
  for (int i = 0; i < static_cast<int>(points.size()); ++i)
    groups.push_back(number.emplace(root(i), static_cast<int>(number.size())).first->second);
  return groups;
}

}  // namespace attnscale

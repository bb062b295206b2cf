#include "scaling/ranking.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace attnscale {
namespace {

using Group = std::set<size_t>;  // places of variants that are not shown to differ

/// a .. z, aa, ab, ..
std::string letter(size_t number) {
  std::string text(1, static_cast<char>('a' + number % 26));
  return number < 26 ? text : letter(number / 26 - 1) + text;
}

/// The largest sets of places of which no two are in `different`: insert and absorb.
std::vector<Group> groups_of(size_t count, const std::vector<std::pair<size_t, size_t>>& different) {
  Group everyone;
  for (size_t i = 0; i < count; ++i) everyone.insert(i);
  std::vector<Group> groups = {everyone};
  for (const auto& [i, j] : different) {
    std::vector<Group> next;
    for (const auto& group : groups) {
      if (!group.count(i) || !group.count(j)) {
        next.push_back(group);
        continue;
      }
      for (const size_t leaves : {i, j}) {
        next.push_back(group);
        next.back().erase(leaves);
      }
    }
    groups.clear();
    for (size_t a = 0; a < next.size(); ++a) {
      const bool absorbed = [&] {
        for (size_t b = 0; b < next.size(); ++b)
          if (a != b && (next[a] != next[b] || b < a) &&
              std::includes(next[b].begin(), next[b].end(), next[a].begin(), next[a].end()))
            return true;
        return false;
      }();
      if (!absorbed) groups.push_back(next[a]);
    }
  }
  std::sort(groups.begin(), groups.end());  // the best variant's group first
  return groups;
}

}  // namespace

std::vector<RankedVariant> rank_variants(const std::vector<PairComparison>& comparisons,
                                         const std::set<std::string>& without_evidence) {
  std::map<std::string, double> sums;
  for (const auto& pair : comparisons) {
    const bool counts = !without_evidence.count(pair.a) && !without_evidence.count(pair.b);
    if (counts && !pair.difference) return {};
    const double difference = pair.difference.value_or(0);
    for (const auto& name : {pair.a, pair.b}) sums.try_emplace(name, 0.0);
    // Those that are no evidence are placed by the others, and place none of them.
    if (!without_evidence.count(pair.b)) sums[pair.a] += difference;
    if (!without_evidence.count(pair.a)) sums[pair.b] -= difference;
  }
  std::vector<RankedVariant> ranking;
  if (sums.size() <= without_evidence.size()) return ranking;
  const auto evident = static_cast<double>(sums.size() - without_evidence.size());
  // One of n is compared with n - 1 others and differs by 0 from itself; one that is no evidence is compared with n.
  for (const auto& [name, sum] : sums) ranking.push_back({.name = name, .above_best = sum / evident, .groups = {}});
  std::stable_sort(ranking.begin(), ranking.end(), [&](const RankedVariant& one, const RankedVariant& other) {
    const bool last = without_evidence.count(one.name), other_last = without_evidence.count(other.name);
    return last != other_last ? other_last : one.above_best < other.above_best;
  });
  const double best = ranking.front().above_best;
  std::map<std::string, size_t> place;
  for (auto& each : ranking) {
    each.above_best -= best;
    place[each.name] = place.size();
  }
  std::vector<std::pair<size_t, size_t>> different;
  for (const auto& pair : comparisons)
    if (pair.shown() && !without_evidence.count(pair.a) && !without_evidence.count(pair.b))
      different.emplace_back(place[pair.a], place[pair.b]);
  const auto groups = groups_of(static_cast<size_t>(evident), different);
  for (size_t g = 0; g < groups.size(); ++g)
    for (const size_t member : groups[g]) ranking[member].groups.push_back(letter(g));
  return ranking;
}

Json ranking_json(const std::vector<RankedVariant>& ranking) {
  Json list = Json::array();
  for (const auto& each : ranking)
    list.push_back({{"variant", each.name},
                    {"above_best", each.above_best},
                    {"groups", each.groups},
                    {"evidence", !each.groups.empty()}});
  return list;
}

std::string ranking_text(const Json& ranking) {
  size_t width = 0;
  for (const auto& each : ranking) width = std::max(width, each["variant"].get<std::string>().size());
  std::string text;
  for (size_t i = 0; i < ranking.size(); ++i) {
    const auto groups = ranking[i]["groups"].get<std::vector<std::string>>();
    const auto shown = groups.empty() ? "no evidence: its best learning rate is at the end of the swept range"
                                      : fmt::format("{}", fmt::join(groups, " "));
    text += fmt::format("{:>3}  {:<{}}  {:>8}  {}\n", i + 1, ranking[i]["variant"].get<std::string>(), width,
                        i == 0 ? "" : fmt::format("{:+.4f}", ranking[i]["above_best"].get<double>()), shown);
  }
  return text;
}

}  // namespace attnscale

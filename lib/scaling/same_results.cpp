#include "scaling/same_results.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace attnscale {
namespace {

using Losses = std::map<std::string, double>;  // by key

bool one_result(const Losses& a, const Losses& b) {
  bool any = false;
  for (const auto& [key, loss] : a) {
    const auto other = b.find(key);
    if (other == b.end()) continue;
    if (loss != other->second) return false;
    any = true;
  }
  return any;
}

}  // namespace

std::vector<std::vector<std::string>> variants_of_one_result(const std::vector<PairedRun>& runs) {
  std::vector<std::pair<std::string, Losses>> variants;
  for (const auto& run : runs) {
    if (!run.done || run.key.empty()) continue;
    auto place =
        std::find_if(variants.begin(), variants.end(), [&](const auto& each) { return each.first == run.variant; });
    if (place == variants.end()) place = variants.insert(place, {run.variant, {}});
    place->second[run.key] = run.loss;
  }
  std::vector<std::vector<std::string>> groups;
  std::vector<const Losses*> firsts;
  for (const auto& [name, losses] : variants) {
    const auto first =
        std::find_if(firsts.begin(), firsts.end(), [&](const Losses* each) { return one_result(*each, losses); });
    if (first != firsts.end()) {
      groups[static_cast<size_t>(first - firsts.begin())].push_back(name);
      continue;
    }
    groups.push_back({name});
    firsts.push_back(&losses);
  }
  std::erase_if(groups, [](const auto& group) { return group.size() < 2; });
  return groups;
}

std::vector<std::string> one_result_notes(const std::vector<PairedRun>& runs) {
  std::vector<std::string> notes;
  for (const auto& group : variants_of_one_result(runs))
    notes.push_back(
        fmt::format("{} have the same losses to the last bit: with these options and this context they are one "
                    "computation, so that "
                    "comparing them says nothing; choose windows, blocks, segments or k below data.context",
                    fmt::join(group, ", ")));
  return notes;
}

}  // namespace attnscale

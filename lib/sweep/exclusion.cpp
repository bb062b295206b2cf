#include "sweep/exclusion.h"

#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/nearest.h"

namespace attnscale {
namespace {

void collect_options(const Json& value, const std::string& path, std::map<std::string, Json>& into) {
  if (!value.is_object()) into[path] = value;
  else
    for (const auto& [key, inside] : value.items()) collect_options(inside, join_path(path, key), into);
}

}  // namespace

Exclusion::Exclusion(const std::vector<std::pair<std::string, Expression>>& conditions) : conditions_(conditions) {}

bool Exclusion::holds(const RunConfig& config) {
  if (conditions_.empty()) return false;
  std::map<std::string, Json> options;
  collect_options(config.to_json(), "", options);
  std::map<std::string, std::vector<const Json*>> by_name;  // a path, or its last part
  std::map<std::string, std::vector<std::string>> paths;
  for (const auto& [path, value] : options) {
    by_name[path] = {&value};
    const auto last = path.substr(path.rfind('.') + 1);
    by_name[last].push_back(&value);
    paths[last].push_back(path);
    known_.insert(path);
    known_.insert(last);
  }
  bool left_out = false;
  for (const auto& [place, condition] : conditions_) {
    std::vector<const Json*> values;
    for (const auto& name : condition.names()) {
      const auto found = by_name.find(name);
      values.push_back(found == by_name.end() ? nullptr : found->second.front());
      if (found != by_name.end() && found->second.size() > 1)
        faults_.insert({place, fmt::format("{} may be {}; write one of them", name, fmt::join(paths[name], " or "))});
    }
    try {
      left_out = condition.holds(values) || left_out;
    } catch (const ConfigError& error) {
      faults_.insert({place, error.what()});
    }
  }
  return left_out;
}

void Exclusion::report(std::vector<Problem>& problems) const {
  for (const auto& [place, message] : faults_) problems.push_back({place, message});
  const std::vector<std::string> known(known_.begin(), known_.end());
  for (const auto& [place, condition] : conditions_)
    for (const auto& name : condition.names()) {
      if (known_.contains(name)) continue;
      const auto near = nearest_name(name, known);
      problems.push_back({place, fmt::format("no run has an option {}{}", name,
                                             near.empty() ? "; expected one such as model.depth"
                                                          : fmt::format("; did you mean \"{}\"?", near))});
    }
}

}  // namespace attnscale

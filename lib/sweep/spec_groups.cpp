#include "sweep/spec_groups.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/nearest.h"

namespace attnscale {
namespace {

bool is_group_key(const std::string& key) {
  return std::find(group_keys().begin(), group_keys().end(), key) != group_keys().end();
}

bool is_group_name(const std::string& name) {
  const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; };
  return !name.empty() && name.size() <= 100 && std::all_of(name.begin(), name.end(), plain);
}

std::vector<Problem> problems_of_groups(const Json& groups) {
  std::vector<Problem> problems;
  const std::string example = "{\"small\": {\"grid\": {\"model.depth\": [1, 2]}}, \"large\": {...}}";
  if (!groups.is_object() || groups.empty())
    return {{"groups", fmt::format("received {}, expected an object: name -> keys of a spec, such as {}",
                                   groups.is_object() ? "an empty object" : describe_value(groups), example)}};
  for (const auto& [name, group] : groups.items()) {
    const auto where = join_path("groups", name);
    if (!is_group_name(name)) problems.push_back({where, "expected a name of letters, digits, '-' and '_'"});
    if (!group.is_object()) {
      problems.push_back({where, fmt::format("received {}, expected keys of a spec, such as \"base\" and \"grid\"",
                                             describe_value(group))});
      continue;
    }
    for (const auto& [key, value] : group.items())
      if (!is_group_key(key))
        problems.push_back({join_path(where, key), "unknown key of a group" + suggestion(key, group_keys())});
  }
  return problems;
}

/// The group above what all share, as a document of its own whose values know their places.
JsonDocument document_of(const JsonDocument& whole, const Json& shared, const std::string& name) {
  JsonDocument document;
  document.name = whole.name;
  std::vector<std::string> taken;
  document.value = merged(shared, whole.value.at("groups").at(name), "", taken);
  document.positions = whole.positions;
  document.origins = whole.origins;
  const auto prefix = join_path("groups", name) + ".";
  for (const auto& [path, position] : whole.positions)
    if (path.starts_with(prefix)) {
      document.positions[path.substr(prefix.size())] = position;
      document.origins.erase(path.substr(prefix.size()));
    }
  for (const auto& [path, origin] : whole.origins)
    if (path.starts_with(prefix)) document.origins[path.substr(prefix.size())] = origin;
  return document;
}

}  // namespace

void GatheredErrors::add(const std::string& message) {
  for (size_t begin = 0; begin <= message.size();) {
    const auto end = std::min(message.find('\n', begin), message.size());
    auto line = message.substr(begin, end - begin);
    if (std::find(lines_.begin(), lines_.end(), line) == lines_.end()) lines_.push_back(std::move(line));
    begin = end + 1;
  }
}

void GatheredErrors::refuse() const {
  if (!lines_.empty()) throw ConfigError(fmt::format("{}", fmt::join(lines_, "\n")));
}

const std::vector<std::string>& group_keys() {
  static const std::vector<std::string> keys = {"base", "grid", "zip", "random", "seeds", "match", "exclude"};
  return keys;
}

Spec read_groups(const JsonDocument& document, const std::vector<std::string>& assignments,
                 const std::function<Spec(JsonDocument, const std::vector<std::string>&)>& read_one) {
  document.refuse(problems_of_groups(document.value.at("groups")));
  auto frame = document;
  frame.value.erase("groups");
  Json shared = Json::object();
  for (const auto& key : group_keys())
    if (frame.value.contains(key)) {
      shared[key] = frame.value[key];
      frame.value.erase(key);
    }
  std::vector<std::string> of_frame, of_groups;
  for (const auto& assignment : assignments) {
    const auto head = assignment.substr(0, assignment.find_first_of(".="));
    const bool of_runs =
        is_group_key(head) || head == "model" || head == "attention" || head == "data" || head == "train";
    (of_runs ? of_groups : of_frame).push_back(assignment);
  }
  GatheredErrors errors;
  Spec spec;
  errors.gather([&] { spec = read_one(frame, of_frame); });
  Json groups = Json::object();
  for (const auto& [name, own] : document.value.at("groups").items())
    errors.gather([&, &name = name] {
      auto group = read_one(document_of(document, shared, name), of_groups);
      group.group = name;
      groups[name] = group.document.value;
      spec.groups.push_back(std::move(group));
    });
  errors.refuse();
  spec.document.value["groups"] = std::move(groups);
  return spec;
}

}  // namespace attnscale

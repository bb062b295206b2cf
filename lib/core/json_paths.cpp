#include "core/json_paths.h"

#include <cmath>
#include <map>

namespace attnscale {

const Json* find_path(const Json& object, const std::string& path) {
  const Json* value = &object;
  for (size_t start = 0; start <= path.size();) {
    const size_t dot = std::min(path.find('.', start), path.size());
    if (!value->is_object()) return nullptr;
    const auto found = value->find(path.substr(start, dot - start));
    if (found == value->end()) return nullptr;
    value = &*found;
    start = dot + 1;
  }
  return value;
}

const Json& at_path(const Json& object, const std::string& path) {
  static const Json nothing;
  const auto* found = find_path(object, path);
  return found ? *found : nothing;
}

std::optional<double> number_at(const Json& object, const std::string& path) {
  const Json& value = at_path(object, path);
  if (!value.is_number() || !std::isfinite(value.get<double>())) return std::nullopt;
  return value.get<double>();
}

std::string text_at(const Json& object, const std::string& path) {
  const Json& value = at_path(object, path);
  return value.is_string() ? value.get<std::string>() : value.is_null() ? "" : value.dump();
}

void erase_path(Json& object, const std::string& path) {
  const auto dot = path.find('.');
  if (!object.is_object()) return;
  if (dot == std::string::npos) object.erase(path);
  else if (const auto found = object.find(path.substr(0, dot)); found != object.end())
    erase_path(*found, path.substr(dot + 1));
}

std::string last_part(const std::string& path) { return path.substr(path.rfind('.') + 1); }

std::vector<std::pair<std::string, Json>> flatten(const Json& object, const std::string& prefix) {
  std::vector<std::pair<std::string, Json>> leaves;
  for (const auto& [key, value] : object.items()) {
    const std::string path = prefix.empty() ? key : prefix + "." + key;
    if (!value.is_object()) leaves.emplace_back(path, value);
    else
      for (auto& leaf : flatten(value, path)) leaves.push_back(std::move(leaf));
  }
  return leaves;
}

Json differing_leaves(const Json& first, const Json& second) {
  Json result = Json::object();
  std::map<std::string, Json> others;
  for (auto& [path, value] : flatten(second)) others[path] = value;
  for (const auto& [path, value] : flatten(first)) {
    const auto other = others.find(path);
    if (other == others.end()) result[path] = {value, nullptr};
    else if (other->second != value) result[path] = {value, other->second};
    if (other != others.end()) others.erase(other);
  }
  for (const auto& [path, value] : others) result[path] = {nullptr, value};
  return result;
}

}  // namespace attnscale

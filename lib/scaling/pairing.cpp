#include "scaling/pairing.h"

#include "core/json_paths.h"

namespace attnscale {
namespace {

Json without_ffn_dim(Json config) {
  if (config.contains("model") && config["model"].is_object()) config["model"].erase("ffn_dim");
  return config;
}

}  // namespace

std::set<std::string> moved_paths(const std::vector<Json>& rows) {
  std::set<std::string> paths;
  for (const auto& row : rows)
    if (const auto moved = row.find("moved"); moved != row.end())
      for (const auto& path : *moved) paths.insert(path.get<std::string>());
  return paths;
}

std::vector<std::string> pair_keys(const std::vector<Json>& rows) {
  std::vector<Json> configs;
  const auto moved = moved_paths(rows);
  for (const auto& row : rows) {
    configs.push_back(row.value("config", Json::object()));
    for (const auto& path : moved) erase_path(configs.back(), path);
  }
  std::set<std::string> whole, narrow;
  for (const auto& config : configs) {
    whole.insert(canonical(config));
    narrow.insert(canonical(without_ffn_dim(config)));
  }
  const bool only_matches = narrow.size() == whole.size();
  std::vector<std::string> keys;
  for (auto& config : configs) {
    if (only_matches) config = without_ffn_dim(std::move(config));
    config.erase("attention");
    if (config.contains("model") && config["model"].is_object()) config["model"].erase("layers");  // hybrids
    keys.push_back(config.empty() ? "" : canonical(config));
  }
  return keys;
}

}  // namespace attnscale

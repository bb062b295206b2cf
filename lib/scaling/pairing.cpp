#include "scaling/pairing.h"

#include <set>

namespace attnscale {
namespace {

Json without_ffn_dim(Json config) {
  if (config.contains("model") && config["model"].is_object()) config["model"].erase("ffn_dim");
  return config;
}

}  // namespace

std::vector<std::string> pair_keys(const std::vector<Json>& rows) {
  std::vector<Json> configs;
  for (const auto& row : rows) configs.push_back(row.value("config", Json::object()));
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

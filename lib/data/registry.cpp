#include "data/registry.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/nearest.h"

namespace attnscale {
namespace {

std::vector<SourceInfo>& sources() {
  static std::vector<SourceInfo> list;
  return list;
}

}  // namespace

const std::vector<SourceInfo>& all_sources() { return sources(); }

void register_source(SourceInfo info) {
  auto& list = sources();
  // Registration order is link order: keep the list sorted, so that output does not depend on it.
  const auto at = std::lower_bound(list.begin(), list.end(), info.name,
                                   [](const SourceInfo& a, const std::string& name) { return a.name < name; });
  list.insert(at, std::move(info));
}

void unregister_source(const std::string& name) {
  std::erase_if(sources(), [&](const SourceInfo& s) { return s.name == name; });
}

const SourceInfo& source_named(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& source : sources()) {
    if (source.name == name) return source;
    names.push_back(source.name);
  }
  throw ConfigError(fmt::format("unknown source \"{}\"{}", name, suggestion(name, names)));
}

Json describe_source(const SourceInfo& info) {
  return {{"name", info.name},
          {"summary", info.summary},
          {"source", info.source},
          {"heads", info.heads},
          {"options", describe_fields(info.fields)}};
}

}  // namespace attnscale

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "train/run_config.h"

namespace attnscale {

/// A run's config with what a plan says of it.
struct ResolvedRun {
  RunConfig config;
  std::string id;  ///< RunConfig::id
  ModelCost cost;  ///< cost_of
};

/// Resolves many configs whose sections repeat, as those of a sweep do: what was read once is not read again.
/// A source's data are taken to stay as they are. Cost: some microseconds for a config of known sections.
class ConfigResolver {
 public:
  ConfigResolver();
  ~ConfigResolver();

  /// What `RunConfig::from_json`, `id` and `cost_of` give, or nothing and the same problems.
  std::optional<ResolvedRun> resolve(const Json& json, std::vector<Problem>& problems);

 private:
  struct Shape;
  struct Training;
  /// Nothing where something is wrong.
  Shape* shape_of(const Json& json);
  const Training* training_of(const Json& json, int64_t context);

  static constexpr size_t most_kept = 1 << 14;  ///< then all is forgotten: a bound on memory
  // By the sections' text.
  std::unordered_map<std::string, std::unique_ptr<Shape>> shapes_;
  std::unordered_map<std::string, std::unique_ptr<Training>> trainings_;
};

}  // namespace attnscale

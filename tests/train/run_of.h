#pragma once

#include <catch2/catch_test_macros.hpp>

#include "core/json.h"
#include "train/run_config.h"

/// A run's config with some paths set, which has to resolve.
/// @param changes  path -> value
inline attnscale::RunConfig run_of(attnscale::Json config, const attnscale::Json& changes) {
  for (const auto& [path, value] : changes.items()) attnscale::set_path(config, path, value);
  std::vector<attnscale::Problem> problems;
  auto resolved = attnscale::RunConfig::from_json(config, problems);
  for (const auto& problem : problems) UNSCOPED_INFO(problem.path << ": " << problem.message);
  REQUIRE(problems.empty());
  return resolved;
}

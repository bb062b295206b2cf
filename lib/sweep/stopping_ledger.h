#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "sweep/stopping.h"
#include "train/referee.h"

namespace attnscale {

/// What was decided in one group of runs that compete: `stopping/<group>/decisions.json` in the sweep's folder, in the
/// order in which the runs came. Whoever trains a run adds its decision, under a lease on the group's folder
/// (core/lease.h): of many processes on many hosts one decides at a time, knows all that was decided before, and no
/// decision is taken twice or changed. The file is written whole, so that it is there with a decision or without.
struct StoppingLedger {
  StoppingRule rule;
  std::string group;
  std::vector<Json> decisions;

  Json to_json() const;  ///< with a SHA-256 over the rest

  /// @throws DataError with file and what is wrong: no ledger, damaged, or decisions that do not follow by the rule
  ///         from those before; IoError
  static StoppingLedger read(const std::filesystem::path& file);
};

/// What the process that trains a run needs: `rule`, `group`, and `folder`, the group's; null without a rule.
/// @param rule  Plan::rule  @param group  `competes_in` of the run
Json stopping_request(const Json& rule, const std::string& group, const std::filesystem::path& sweep_folder);

/// Decides with the group's ledger; nothing for a null request. Cost of a decision: a handful of small files, and it
/// grows with the number of decisions of the group, whose ledger is written anew.
/// @param run, steps     the run and its length
/// @param lease_seconds  without a sign of life after which another takes the group over
std::unique_ptr<Referee> referee_for(const Json& request, const std::string& run, int64_t steps, double lease_seconds);

}  // namespace attnscale

#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// What a sweep would do with one run of its plan, and why.
struct RunReason {
  std::string id;
  /// done; stopped (early, by the plan's rule); new; changed (a run at the same point of the axes is here, but with
  /// another config); failed (to be tried again); unfinished (to go on from a checkpoint)
  std::string state;
  std::string reason;  ///< in words: what changed, what failed, the step to go on from
  std::string before;  ///< of a changed run: the id of the one that is here; else empty
};

/// For each run of a plan (Plan::to_json, or plan.json), what is in the results folder of it. Touches nothing; what is
/// damaged counts as not there, and the reason says so.
///
/// A run is changed when the folder has one that the plan does not have, and the two agree in all that the axes set:
/// then the reason lists the config paths that differ, or says that the data do.
std::vector<RunReason> explain(const std::filesystem::path& folder, const Json& plan);

}  // namespace attnscale

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "model/cost.h"
#include "train/run_config.h"

namespace attnscale {

/// What a finished run hands over to be written down.
struct RunOutcome {
  std::string status;                  ///< done, diverged, failed, oom
  int64_t steps = 0;                   ///< updates done
  std::vector<Json> evaluations;       ///< rows of the log, in order
  std::optional<int64_t> diverged_at;  ///< the step whose numbers were not finite
  std::string message;                 ///< of failed and oom
  double seconds = 0;                  ///< of training, over all sessions
  std::string started, finished;       ///< UTC
};

/// The row of results.jsonl. Never holds NaN or null: what is not known is left out.
Json result_row(const RunConfig& config, const ModelCost& cost, const RunOutcome& outcome);

}  // namespace attnscale

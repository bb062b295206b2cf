#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sweep/match.h"
#include "sweep/spec.h"
#include "train/config_resolver.h"

namespace attnscale {

/// One training that the sweep will do.
struct PlannedRun : ResolvedRun {
  Json settings = {};  ///< what the axes and matching set, by config path
  std::optional<Matched> matched = {};
  std::vector<std::string> groups = {};  ///< of the spec that have it; empty in a spec without
  std::string competes_in = {};          ///< the group in which it may be stopped early; empty without such a rule

  double tokens() const { return static_cast<double>(work.tokens); }
  double training_flops() const { return work.flops.executed; }
};

/// Relative time of a run: its FLOPs, and a cost per step and layer that small models pay for dispatch.
inline double relative_work(double flops, int64_t steps, double depth) {
  return flops + 2e7 * static_cast<double>(steps) * depth;
}

struct Plan {
  std::string name;
  std::vector<PlannedRun> runs;  ///< in the order of the axes, seeds innermost; equal configs once
  std::vector<IncludedFile> included = {};
  int64_t repeated = 0;  ///< points whose resolved config another point had already
  int64_t excluded = 0;  ///< points that `exclude` left out
  std::optional<StoppingRule> stopping = {};

  Json rule() const { return stopping ? stopping->to_json() : Json(); }  ///< for early stopping; null without
  Json to_json() const;                                                  ///< plan.json
};

/// Expands and resolves every run and validates all of them before any starts.
/// @throws ConfigError with every problem of every run, at the place in the spec that set the value
Plan make_plan(const Spec& spec);

/// How many of up to `jobs` runs fit into this much memory side by side, whichever they are: the largest may meet. At
/// least 1, since each by itself was checked.
int jobs_that_fit(const Plan& plan, int jobs, double memory_bytes);

/// Memory of the `jobs` largest runs together, bytes.
double memory_side_by_side(const Plan& plan, int jobs);

/// What is trained in any case: where runs may be stopped early, as soon and as many as the rule can; else everything.
struct LeastWork {
  size_t groups = 0, largest_group = 0;
  double tokens = 0, flops = 0;
  double share = 1;  ///< of the FLOPs that all runs take to their ends
};
LeastWork least_work(const Plan& plan);

/// The plan as text for a terminal of `width` columns: a row per run, then the sums.
std::string plan_text(const Plan& plan, size_t width);

}  // namespace attnscale

#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/expression.h"
#include "core/json.h"
#include "sweep/include.h"
#include "sweep/match_options.h"
#include "sweep/stopping.h"

namespace attnscale {

/// One direction of a sweep: at each point it sets one value (grid, seeds) or several together
/// (zip, random).
struct Axis {
  std::string label;                            ///< `grid.model.depth`, `zip[0]`, `random`, `seeds`
  std::vector<std::string> paths;               ///< config paths that it sets
  std::vector<std::vector<Json>> points;        ///< per point, a value for each path
  std::vector<std::vector<std::string>> where;  ///< per point and path, the JSON path in the spec
};

/// What a user asked for: a base config and the axes along which it varies.
///
/// `base` holds the sections model, attention, data, train. `grid` multiplies its axes, `zip`
/// walks its lists in step, `random` draws samples, `seeds` repeats everything; `match` brings the runs to one size.
/// Values may be derived (sweep/derived.h); `exclude` leaves out runs for which a condition over their config holds.
/// `claims` (core/claim.h) are what the results are asked for afterwards; they stay in the document.
/// `include` and `groups` are resolved when a spec is read: the document holds neither files to be found nor anything
/// that groups share.
struct Spec {
  JsonDocument document;  ///< as read, with what it includes, for places in messages
  std::string name;       ///< names the default output folder
  Json base = Json::object();
  std::vector<Axis> axes;                                   ///< outermost first; seeds last
  std::optional<Match> match;                               ///< solved for each run after its axes are set
  std::optional<StoppingRule> stopping;                     ///< ends runs early that do worse than others
  std::vector<std::pair<std::string, Expression>> exclude;  ///< place in the spec, and what leaves a run out

  std::vector<IncludedFile> included;
  std::string group;         ///< of one of `groups`: its name
  std::vector<Spec> groups;  ///< whose runs together are this spec's, which then has no axes of its own

  /// Runs that the axes multiply to; a double, since a spec may ask for 10^12.
  double num_runs() const;
};

/// The largest spec file that is read; a sweep of a million listed values fits.
inline constexpr int64_t max_spec_bytes = 64 << 20;

/// Runs that one sweep may have; more is refused with the count.
inline constexpr double max_runs = 1e6;

/// @param file         a regular file, or `-` for standard input
/// @param assignments  `path=value` from --set: config paths (`model.depth=4`; replaces an axis over
///                     the same path), or spec keys (`seeds=1`, `grid.model.depth=[1,2]`)
/// @throws ConfigError with every problem of the spec's own structure, IoError
Spec read_spec(const std::filesystem::path& file, const std::vector<std::string>& assignments);

/// As `read_spec`, of a document that was read already.
Spec spec_of(JsonDocument document, const std::vector<std::string>& assignments);

}  // namespace attnscale

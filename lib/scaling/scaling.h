#pragma once

#include <filesystem>

#include "core/json.h"
#include "scaling/fit.h"
#include "scaling/table.h"

namespace attnscale {

/// The document `scaling.json` of a sweep, made from its results.jsonl alone:
///
///   {"schema", "version", "sweep", "points", "curves", "truth"?, "fits": {"all", VARIANT...}, "doubts", "comparison",
///    "notes"}
///
/// Fits see the raw loss; where every finished run knows its excess over one and the same true Bayes loss, each fit
/// has a "paired" one beside it, of that Bayes loss plus the excess: both are measured on the same tokens, so that the
/// sampling noise of the validation set, which no resampling of runs can see, cancels. "truth" says under "validation"
/// how far those tokens are from the source.
/// A variant that occurs with several option sets is split: `sliding_window window=16`.
/// @throws DataError without results.jsonl or with damaged rows, IoError
Json scaling_of_sweep(const std::filesystem::path& folder, FitReportOptions options = {});

/// What `attnscale fit PATH` prints: `fit_report` of all points, and where they have several
/// variants, "variants": {NAME: the same of each}; and "ledgers": {"N", "C"}, the columns these are read from. A
/// sweep's folder is read as in `scaling_of_sweep` unless `columns` names its own N, D or L.
/// @throws as `read_points`
Json fit_of_path(const std::filesystem::path& path, const ColumnMap& columns, FitReportOptions options = {});

/// `fit_text` of the whole and of each variant.
std::string fit_text_of_path(const Json& fit);

}  // namespace attnscale

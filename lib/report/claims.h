#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/claim.h"
#include "core/json.h"
#include "report/run_table.h"

namespace attnscale {

/// What a sweep's results say of the claims of its spec, as JSON:
///
///   {"schema": "attnscale.verdict/1", "sweep", "level",
///    "claims": [{"claim", "expected", "verdict": "holds" | "does not hold" | "undecided" | "refused",
///                "estimate"?, "low"?, "high"?,
///                "level", "seeds", "runs", "diverged", "more_seeds"?, "by_seed": [..], "notes": [..]}]}
///
/// A claim's number is found for each seed by itself: the measure of the runs of `of` (with `tune`, in each setting at
/// the value whose loss is least on average over the *other half* of the seeds, so that the choice does not see the
/// seeds that it is judged by; halves are every second seed),
/// less that of the runs of `against` which agree with them in every setting that varies within either side, is not
/// named in the two conditions and does not follow from what they name, mean over those settings. With `along` it is
/// the least-squares slope over it in place of the measure. With `optimum` it is log2 of the value of an option at
/// which the measure is least, as `attnscale optimum` finds it (lib/scaling/optimum.h): the vertex of a curve of means
/// over seeds. A seed's number then is its pseudo-value, what it adds to that of the others (n whole - (n - 1) without
/// it), so that the interval is the jackknife's around the optimum of all seeds (Tukey 1958). Where a best value stands
/// at an end of the swept ones, or beside a run that diverged and counts as nothing, there is no verdict. A ratio is
/// the difference of logarithms, told as a ratio.
///
/// The seeds are the sample: `estimate` is their mean, `low` and `high` Student's interval (of tuned numbers a wider
/// one, see report/claim_judgement.h) at a level at which the intervals of all claims hold together in 95 % of sweeps
/// (Bonferroni). The claim holds when the whole interval lies where the number is expected, does not hold when none of
/// it does, and is undecided otherwise; `more_seeds` then says how many more would decide it if the seeds to come
/// scattered about the same mean as these. Seeds that all give one number measure no scatter: then each counts as one
/// throw of a coin (a sign test at the same level).
///
/// A seed counts when it has every run that another one has, ended as done or diverged; runs that carry flags count,
/// and a note says how many. A run that diverged counts as `diverged` says; where the claim does not say, seeds with
/// such a run are left out and there is no verdict, since what is left is a selection.
///
/// A claim is refused, and its notes say why with its place, that cannot be read or that the results cannot answer: an
/// unknown column with the nearest, a side without runs, sides that have no setting in common, a measure that is no
/// number. The others are judged beside it, at the level of as many claims as there are.
///
/// @param name  of the sweep
Json claims_report(const RunTable& table, const std::vector<Claim>& claims, const std::string& name);

/// One claim's part of `claims_report`, with an interval of this level. @throws ConfigError where it is refused
Json answer_to(const Claim& claim, const RunTable& table, double level);

/// The claims of a folder's spec.json, or of another spec, over the folder's results.
/// @throws DataError for a spec without claims; as readable_claims, RunTable::read and read_json
Json claims_report(const std::filesystem::path& folder, const std::filesystem::path& spec = {});

/// Why claims are refused, a line each; empty where none is. @param report  of claims_report or with_rerun
std::string refusals(const Json& report);

/// The report for a terminal.
std::string claims_text(const Json& report);

/// The report as Markdown, for an experiment's README: a row for each claim, beside the rerun's where there is one, and
/// below the table what a reader has to know of single claims.
std::string claims_markdown(const Json& report);

/// Puts the report of the same claims on a rerun beside it: `again`, and `same`, how many verdicts are the same,
/// refused ones not counted.
/// @throws ConfigError if a seed is in both
Json with_rerun(Json report, const Json& again);

}  // namespace attnscale

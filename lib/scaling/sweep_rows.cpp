#include "scaling/sweep_rows.h"

#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>

#include "scaling/pairing.h"
#include "scaling/result_rows.h"
#include "scaling/same_results.h"

namespace attnscale {
namespace {

std::string attention_name(const Json& row) {
  const auto config = row.find("config");
  if (config == row.end() || !config->is_object()) return "";
  const auto attention = config->find("attention");
  if (attention == config->end() || !attention->is_object()) return "";
  // Where a row says what it is called, that names hybrids too; older rows do not.
  const auto named = row.find("variant");
  return named != row.end() && named->is_string() ? named->get<std::string>() : attention->value("variant", "");
}

std::optional<Json> common_truth(const std::vector<Json>& rows, std::vector<std::string>& notes) {
  std::optional<Json> truth;
  for (const auto& row : rows) {
    if (row.value("status", "done") != "done") continue;
    if (!row.contains("truth") || !row["truth"].contains("bayes_loss")) return std::nullopt;
    if (!truth) truth = row["truth"];
    const double here = row["truth"]["bayes_loss"], first = (*truth)["bayes_loss"];
    if (std::abs(here - first) > 1e-9 * std::abs(first)) {
      notes.push_back(
          "runs have different true Bayes losses (other sources or contexts), so that no single truth stands "
          "beside the fits; fit them apart");
      return std::nullopt;
    }
  }
  return truth;
}

/// Gives each finished point its true Bayes loss + paired excess, where all have one.
bool pair_losses(SweepRows& sweep) {
  if (!sweep.truth) return false;
  const double truth = (*sweep.truth)["bayes_loss"];
  std::vector<double> paired(sweep.rows.size(), 0.0);
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    if (!sweep.points[i].done()) continue;
    if (!sweep.rows[i].contains("excess")) return false;
    paired[i] = truth + sweep.rows[i]["excess"].get<double>();
    if (!(paired[i] > 0) || !std::isfinite(paired[i])) return false;
  }
  for (size_t i = 0; i < paired.size(); ++i) sweep.points[i].paired_L = paired[i];
  return true;
}

/// The validation set furthest from the truth: runs of one sweep may have sets of several sizes.
std::optional<ValidationCheck> check_validation(const SweepRows& sweep) {
  if (!sweep.truth) return std::nullopt;
  const double truth = (*sweep.truth)["bayes_loss"];
  const auto truth_error = sweep.truth->find("bayes_loss_error");
  std::optional<ValidationCheck> worst;
  bool all_have_errors = true;
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    const auto& row = sweep.rows[i];
    if (!sweep.points[i].done() || !row.contains("bayes_loss")) continue;
    ValidationCheck check{.bayes_loss = row["bayes_loss"].get<double>(), .deviation = 0, .standard_error = {}};
    check.deviation = check.bayes_loss - truth;
    if (const auto error = row.find("bayes_loss_error"); error != row.end())
      check.standard_error =
          std::hypot(error->get<double>(),
                     truth_error != sweep.truth->end() && truth_error->is_number() ? truth_error->get<double>() : 0.0);
    else all_have_errors = false;
    if (!worst || std::abs(check.deviation) > std::abs(worst->deviation)) worst = check;
  }
  if (worst && !all_have_errors) worst->standard_error.reset();
  return worst;
}

/// Evaluations on the way; empty where a row has none or its lists do not belong together.
std::vector<Waypoint> curve_points(const Json& row) {
  const auto curve = row.find("curve");
  if (curve == row.end() || !curve->is_object()) return {};
  for (const char* key : {"tokens", "flops", "loss"})
    if (!curve->contains(key) || !(*curve)[key].is_array() || (*curve)[key].size() != (*curve)["tokens"].size())
      return {};
  std::vector<Waypoint> points;
  for (size_t i = 0; i < (*curve)["tokens"].size(); ++i) {
    const auto &D = (*curve)["tokens"][i], &C = (*curve)["flops"][i], &L = (*curve)["loss"][i];
    if (!D.is_number() || !C.is_number() || !L.is_number() || !(D.get<double>() > 0) || !(C.get<double>() > 0) ||
        !(L.get<double>() > 0))
      continue;
    points.push_back({.D = D, .C = C, .L = L});
  }
  return points;
}

}  // namespace

std::vector<std::string> variant_labels(const std::vector<Json>& rows) {
  std::map<std::string, std::map<std::string, std::set<std::string>>> values;  // variant -> option -> values seen
  for (const auto& row : rows)
    if (const auto name = attention_name(row); !name.empty())
      for (const auto& [option, value] : row["config"]["attention"].items()) values[name][option].insert(value.dump());
  // What matching solved for says how large a variant had to be, and is no variant of its own.
  for (const auto& path : moved_paths(rows))
    if (path.starts_with("attention."))
      for (auto& [name, options] : values) options.erase(path.substr(path.find('.') + 1));
  std::vector<std::string> labels;
  for (const auto& row : rows) {
    auto label = attention_name(row);
    if (!label.empty())
      for (const auto& [option, seen] : values[label])
        if (seen.size() > 1)
          label += fmt::format(" {}={}", option, row["config"]["attention"].value(option, Json("default")).dump());
    labels.push_back(std::move(label));
  }
  return labels;
}

std::string cell_of(Json config) {
  if (config.contains("train") && config["train"].is_object()) config["train"].erase("seed");
  return canonical(config);
}

std::string ValidationCheck::text() const {
  auto text = fmt::format("the validation tokens' own Bayes loss is {:.6g}, {:+.2g} from the true {:.6g}", bayes_loss,
                          deviation, bayes_loss - deviation);
  if (!standard_error) text += "; its standard error is not recorded, so that nobody can say whether that is chance";
  else if (*standard_error > 0 && std::abs(deviation) <= 3 * *standard_error)
    text += fmt::format(" or {:.1f} standard errors, as chance allows", std::abs(deviation) / *standard_error);
  else if (std::abs(deviation) > 1e-9)
    text += fmt::format(
        " with a standard error of {:.2g}, MORE THAN CHANCE EXPLAINS: the source's truth or its ideal predictor is "
        "wrong",
        *standard_error);
  return text + "; fits of the raw loss carry this error, those of the paired excess do not";
}

Json ValidationCheck::to_json() const {
  Json json = {{"bayes_loss", bayes_loss}, {"deviation", deviation}};
  if (standard_error) json["standard_error"] = *standard_error;
  return json;
}

std::vector<PairedRun> paired_runs(const std::vector<Json>& rows, const std::vector<std::string>& labels,
                                   bool keep_flagged) {
  const auto keys = pair_keys(rows);
  std::vector<PairedRun> runs;
  for (size_t i = 0; i < rows.size(); ++i) {
    const bool done = rows[i].value("status", "done") == "done" && rows[i].contains("loss") &&
                      (keep_flagged || !rows[i].contains("flags") || rows[i]["flags"].empty());
    runs.push_back({.variant = labels[i],
                    .key = keys[i],
                    .done = done,
                    .loss = done ? rows[i]["loss"].get<double>() : 0,
                    .params = rows[i].value("params", 0.0),
                    .cell = keys[i].empty() ? "" : cell_of(Json::parse(keys[i]))});
  }
  return runs;
}

SweepRows read_sweep_rows(const std::filesystem::path& folder, const ColumnMap& columns, bool keep_flagged,
                          const std::optional<std::set<std::string>>& only) {
  auto results = read_result_rows(folder);
  SweepRows sweep;
  sweep.notes = std::move(results.notes);
  std::vector<std::pair<std::string, Json>> kept;
  for (size_t i = 0; i < results.rows.size(); ++i)
    if (!only || only->contains(results.rows[i]["id"].get<std::string>()))
      kept.emplace_back(std::move(results.places[i]), std::move(results.rows[i]));
  sweep.points = points_of_rows(kept, columns, (folder / "results.jsonl").string());
  for (auto& [place, row] : kept) sweep.rows.push_back(std::move(row));

  const auto labels = variant_labels(sweep.rows);
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    auto& point = sweep.points[i];
    if (!labels[i].empty() && !columns.columns.count("variant")) point.variant = labels[i];
    if (sweep.rows[i].contains("config")) point.cell = cell_of(sweep.rows[i]["config"]);
    point.curve = curve_points(sweep.rows[i]);
  }
  // Someone who names a loss column wants that column.
  if (columns.columns.count("L")) return sweep;
  sweep.pairs = paired_runs(sweep.rows, labels, keep_flagged);
  for (auto& note : one_result_notes(sweep.pairs)) sweep.notes.push_back(std::move(note));
  sweep.truth = common_truth(sweep.rows, sweep.notes);
  sweep.paired = pair_losses(sweep);
  sweep.validation = check_validation(sweep);
  // Where the truth is met exactly (a task whose answers all follow) there is no chance to speak of.
  const bool exact =
      sweep.validation && !sweep.validation->standard_error && std::abs(sweep.validation->deviation) < 1e-9;
  if (sweep.validation && !exact) sweep.notes.push_back(sweep.validation->text());
  return sweep;
}

}  // namespace attnscale

#include "scaling/sweep_rows.h"

#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>

#include "scaling/pairing.h"
#include "scaling/result_rows.h"

namespace attnscale {
namespace {

std::string attention_name(const Json& row) {
  const auto config = row.find("config");
  if (config == row.end() || !config->is_object()) return "";
  const auto attention = config->find("attention");
  if (attention == config->end() || !attention->is_object()) return "";
  return attention->value("variant", "");
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

/// Replaces losses by true Bayes loss + paired excess where every finished row has one.
bool pair_losses(SweepRows& sweep) {
  if (!sweep.truth) return false;
  double noise = 0;
  int count = 0;
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    if (!sweep.points[i].done()) continue;
    if (!sweep.rows[i].contains("excess")) return false;
    noise += sweep.rows[i]["loss"].get<double>() - sweep.rows[i]["excess"].get<double>();
    ++count;
  }
  const double truth = (*sweep.truth)["bayes_loss"];
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    if (!sweep.points[i].done()) continue;
    const double paired = truth + sweep.rows[i]["excess"].get<double>();
    if (!(paired > 0) || !std::isfinite(paired)) return false;
    sweep.points[i].L = paired;
  }
  if (count > 0)
    sweep.notes.push_back(
        fmt::format("fits see true Bayes loss + paired excess: the validation tokens' own Bayes loss is "
                    "{:.6g}, {:+.2g} from the true {:.6g}, and this sampling noise cancels",
                    noise / count, noise / count - truth, truth));
  return true;
}

}  // namespace

std::vector<std::string> variant_labels(const std::vector<Json>& rows) {
  std::map<std::string, std::map<std::string, std::set<std::string>>> values;  // variant -> option -> values seen
  for (const auto& row : rows)
    if (const auto name = attention_name(row); !name.empty())
      for (const auto& [option, value] : row["config"]["attention"].items()) values[name][option].insert(value.dump());
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

std::vector<PairedRun> paired_runs(const std::vector<Json>& rows, const std::vector<std::string>& labels) {
  const auto keys = pair_keys(rows);
  std::vector<PairedRun> runs;
  for (size_t i = 0; i < rows.size(); ++i) {
    const bool done = rows[i].value("status", "done") == "done" && rows[i].contains("loss");
    runs.push_back({.variant = labels[i],
                    .key = keys[i],
                    .done = done,
                    .loss = done ? rows[i]["loss"].get<double>() : 0,
                    .params = rows[i].value("params", 0.0),
                    .cell = keys[i].empty() ? "" : cell_of(Json::parse(keys[i]))});
  }
  return runs;
}

SweepRows read_sweep_rows(const std::filesystem::path& folder, const ColumnMap& columns) {
  auto results = read_result_rows(folder);
  SweepRows sweep;
  sweep.notes = std::move(results.notes);
  std::vector<std::pair<std::string, Json>> kept;
  for (size_t i = 0; i < results.rows.size(); ++i)
    kept.emplace_back(std::move(results.places[i]), std::move(results.rows[i]));
  sweep.points = points_of_rows(kept, columns, (folder / "results.jsonl").string());
  for (auto& [place, row] : kept) sweep.rows.push_back(std::move(row));

  const auto labels = variant_labels(sweep.rows);
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    auto& point = sweep.points[i];
    if (!labels[i].empty() && !columns.columns.count("variant")) point.variant = labels[i];
    if (sweep.rows[i].contains("config")) point.cell = cell_of(sweep.rows[i]["config"]);
  }
  // Someone who names a loss column wants that column.
  if (columns.columns.count("L")) return sweep;
  sweep.pairs = paired_runs(sweep.rows, labels);
  sweep.truth = common_truth(sweep.rows, sweep.notes);
  sweep.paired = pair_losses(sweep);
  return sweep;
}

}  // namespace attnscale

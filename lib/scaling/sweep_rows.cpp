#include "scaling/sweep_rows.h"

#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>

#include "scaling/pairing.h"

namespace attnscale {
namespace {

std::string attention_name(const Json& row) {
  const auto config = row.find("config");
  if (config == row.end() || !config->is_object()) return "";
  const auto attention = config->find("attention");
  if (attention == config->end() || !attention->is_object()) return "";
  return attention->value("variant", "");
}

/// Names of the variants; one that occurs with several option sets gets those options behind its
/// name in which the sets differ. [R]
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

/// The config without what seeds of one cell may differ in.
std::string cell_of(Json config) {
  if (config.contains("train") && config["train"].is_object()) config["train"].erase("seed");
  return canonical(config);
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

SweepRows read_sweep_rows(const std::filesystem::path& folder, const ColumnMap& columns) {
  SweepRows sweep;
  const auto file = folder / "results.jsonl";
  if (!std::filesystem::is_directory(folder)) throw IoError(folder.string() + ": no such folder; expected a sweep's");
  if (!std::filesystem::exists(file))
    throw DataError(fmt::format("{}: is a folder without results.jsonl; expected a sweep's folder", folder.string()));
  std::vector<std::pair<std::string, Json>> kept;
  std::map<std::string, size_t> place_of_id;
  for (auto& [place, row] : read_jsonl(file, true)) {
    const auto id = row.contains("id") ? row["id"].dump() : place;
    const auto [found, is_new] = place_of_id.emplace(id, kept.size());
    if (is_new) kept.emplace_back(std::move(place), std::move(row));
    else kept[found->second] = {std::move(place), std::move(row)};
  }
  sweep.points = points_of_rows(kept, columns, file.string());
  for (auto& [place, row] : kept) sweep.rows.push_back(std::move(row));

  const auto labels = variant_labels(sweep.rows);
  const auto keys = pair_keys(sweep.rows);
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    auto& point = sweep.points[i];
    if (!labels[i].empty() && !columns.columns.count("variant")) point.variant = labels[i];
    const auto config = sweep.rows[i].find("config");
    if (config == sweep.rows[i].end() || !config->is_object()) continue;
    point.cell = cell_of(*config);
    sweep.pairs.push_back({.variant = point.variant,
                           .key = keys[i],
                           .done = point.done(),
                           .loss = point.L,
                           .params = point.N,
                           .cell = cell_of(Json::parse(keys[i]))});
  }
  // Someone who names a loss column wants that column.
  if (columns.columns.count("L")) return sweep;
  sweep.truth = common_truth(sweep.rows, sweep.notes);
  sweep.paired = pair_losses(sweep);
  return sweep;
}

}  // namespace attnscale

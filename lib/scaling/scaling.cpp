#include "scaling/scaling.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/version.h"
#include "scaling/flags.h"
#include "scaling/sweep_rows.h"

namespace attnscale {
namespace {

std::vector<std::string> variants_of(const std::vector<Point>& points) {
  std::vector<std::string> names;
  for (const auto& point : points)
    if (!point.variant.empty() && std::find(names.begin(), names.end(), point.variant) == names.end())
      names.push_back(point.variant);
  return names;
}

std::vector<Point> only(const std::vector<Point>& points, const std::string& variant) {
  std::vector<Point> chosen;
  for (const auto& point : points)
    if (point.variant == variant) chosen.push_back(point);
  return chosen;
}

void copy_if_present(const Json& from, const char* key, Json& to) {
  if (const auto found = from.find(key); found != from.end() && !found->is_null()) to[key] = *found;
}

/// What identifies a run in points and curves.
Json identity(const Json& row, const Point& point) {
  Json result;
  copy_if_present(row, "id", result);
  result["variant"] = point.variant;
  if (row.contains("config") && row["config"].is_object() && row["config"].contains("model"))
    for (const char* key : {"depth", "model_dim"}) copy_if_present(row["config"]["model"], key, result);
  return result;
}

Json point_of(const Json& row, const Point& point) {
  auto result = identity(row, point);
  for (const char* key : {"params", "parameters", "tokens", "flops", "loss", "bayes_loss", "excess", "seed", "flags"})
    copy_if_present(row, key, result);
  result["status"] = point.status;
  copy_if_present(row, "diverged_at", result);
  return result;
}

Json curve_of(const Json& row, const Point& point) {
  auto result = identity(row, point);
  for (const char* key : {"seed", "params"}) copy_if_present(row, key, result);
  for (const char* key : {"steps", "tokens", "flops", "loss"}) copy_if_present(row["curve"], key, result);
  return result;
}

void know_truth(const SweepRows& sweep, FitReportOptions& options) {
  options.true_bayes_loss = (*sweep.truth)["bayes_loss"].get<double>();
  if (sweep.validation) options.validation_error = sweep.validation->standard_error;
}

}  // namespace

Json scaling_of_sweep(const std::filesystem::path& folder, FitReportOptions options) {
  const auto sweep = read_sweep_rows(folder, {}, options.keep_flagged);
  auto name = std::filesystem::absolute(folder).lexically_normal();
  if (!name.has_filename()) name = name.parent_path();
  Json document = {{"schema", "attnscale.scaling/1"}, {"version", version}, {"sweep", name.filename().string()}};
  document["points"] = Json::array();
  document["curves"] = Json::array();
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    document["points"].push_back(point_of(sweep.rows[i], sweep.points[i]));
    if (sweep.rows[i].contains("curve")) document["curves"].push_back(curve_of(sweep.rows[i], sweep.points[i]));
  }
  if (sweep.truth) {
    document["truth"] = *sweep.truth;
    if (sweep.validation) document["truth"]["validation"] = sweep.validation->to_json();
    know_truth(sweep, options);
  }
  document["fits"]["all"] = fit_report(sweep.points, options);
  for (const auto& variant : variants_of(sweep.points))
    document["fits"][variant] = fit_report(only(sweep.points, variant), options);
  Doubts doubts;
  for (const auto& [name, fit] : document["fits"].items()) add_doubts(fit, name + " ", doubts);
  document["doubts"] = doubts.list();
  document["comparison"] = compare_variants(sweep.pairs);
  auto notes = sweep.notes;
  if (const auto count = document["comparison"].size(); count > 1)
    notes.push_back(
        fmt::format("verdicts of the {} comparisons hold together at 95 % (Holm); an `interval` holds by "
                    "itself, a `corrected_interval` together with the others (Bonferroni)",
                    count));
  document["notes"] = notes;
  return document;
}

Json fit_of_path(const std::filesystem::path& path, const ColumnMap& columns, FitReportOptions options) {
  std::vector<Point> points;
  std::vector<std::string> notes;
  if (std::filesystem::is_directory(path)) {
    auto sweep = read_sweep_rows(path, columns, options.keep_flagged);
    points = std::move(sweep.points);
    notes = std::move(sweep.notes);
    if (sweep.truth && !options.true_bayes_loss) know_truth(sweep, options);
  } else {
    points = read_points(path, columns);
  }
  auto report = fit_report(points, options);
  report["ledgers"] = {{"N", columns.source_of("N")}};
  const bool has_C = std::any_of(points.begin(), points.end(), [](const Point& point) { return point.C > 0; });
  report["ledgers"]["C"] = has_C ? columns.source_of("C") : "6 N D";
  const auto variants = variants_of(points);
  if (variants.size() > 1)
    for (const auto& variant : variants) report["variants"][variant] = fit_report(only(points, variant), options);
  if (!notes.empty()) report["notes"] = notes;
  return report;
}

std::string fit_text_of_path(const Json& fit) {
  auto text = fit_text(fit);
  text += fmt::format("\nN is counted as {}, C as {}\n", fit["ledgers"]["N"].get<std::string>(),
                      fit["ledgers"]["C"].get<std::string>());
  if (fit.contains("variants"))
    for (const auto& [name, each] : fit["variants"].items())
      text += fmt::format("\n--- {} ---\n", name) + fit_text(each);
  if (fit.contains("notes"))
    for (const auto& note : fit["notes"]) text += "\nnote: " + note.get<std::string>();
  return text + (fit.contains("notes") ? "\n" : "");
}

}  // namespace attnscale

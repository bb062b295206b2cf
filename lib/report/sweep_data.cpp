#include "report/sweep_data.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "core/files.h"
#include "report/claims.h"
#include "report/text.h"
#include "scaling/result_rows.h"
#include "scaling/sweep_rows.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

Json read_optional(const fs::path& file, std::vector<std::string>& notes) {
  if (!fs::exists(file)) return Json::object();
  try {
    return read_json(file).value;
  } catch (const Error& error) {
    notes.push_back(fmt::format("{} was left out: {}", file.filename().string(), error.what()));
    return Json::object();
  }
}

/// What the axes set for each run, by id, from plan.json.
std::map<std::string, std::string> settings_of(const Json& plan) {
  // Columns of their own already; a variant's name carries its options.
  static const std::set<std::string> shown = {"model.depth", "model.model_dim", "train.seed"};
  std::map<std::string, std::string> result;
  const Json& runs = at_path(plan, "runs");
  if (!runs.is_array()) return result;
  for (const Json& run : runs) {
    const Json& settings = at_path(run, "settings");
    if (!settings.is_object()) continue;
    std::string text;
    for (const Json& group : at_path(run, "groups"))
      if (group.is_string()) text += (text.empty() ? "group = " : " and ") + group.get<std::string>();
    for (const auto& [path, value] : settings.items()) {
      if (shown.count(path) || path.rfind("attention", 0) == 0) continue;
      text += (text.empty() ? "" : ", ") + last_part(path) + " = " +
              (value.is_string() ? value.get<std::string>() : value.dump());
    }
    result[text_at(run, "id")] = text;
  }
  return result;
}

std::vector<CurvePoint> curve_of(const Json& row) {
  std::vector<CurvePoint> curve;
  const Json& tokens = at_path(row, "curve.tokens");
  const Json& flops = at_path(row, "curve.flops");
  const Json& loss = at_path(row, "curve.loss");
  for (size_t i = 0; i < loss.size() && i < tokens.size(); ++i) {
    if (!loss[i].is_number() || !tokens[i].is_number()) continue;
    const double at_flops = i < flops.size() && flops[i].is_number() ? flops[i].get<double>() : 0;
    curve.push_back({tokens[i].get<double>(), at_flops, loss[i].get<double>()});
  }
  return curve;
}

Run run_of(const Json& row) {
  Run run;
  run.id = text_at(row, "id");
  run.status = text_at(row, "status");
  run.message = text_at(row, "message");
  run.depth = number_at(row, "config.model.depth");
  run.model_dim = number_at(row, "config.model.model_dim");
  run.seed = number_at(row, "seed");
  run.diverged_at = number_at(row, "diverged_at");
  run.params = number_at(row, "params");
  run.tokens = number_at(row, "tokens");
  run.flops = number_at(row, "flops");
  run.loss = number_at(row, "loss");
  run.bayes_loss = number_at(row, "bayes_loss");
  run.excess = number_at(row, "excess");
  run.accuracy = number_at(row, "accuracy");
  run.chance_accuracy = number_at(row, "truth.chance_accuracy");
  run.state_bytes = number_at(row, "state_bytes");
  run.task = canonical(at_path(row, "config.data"));
  run.seconds = number_at(row, "timing.seconds");
  run.curve = curve_of(row);
  for (const Json& flag : at_path(row, "flags")) run.flags.push_back(flag.get<std::string>());
  run.cell = cell_of(at_path(row, "config"));
  return run;
}

std::string trouble_text(const std::map<std::string, size_t>& statuses) {
  std::string text;
  for (const auto& [status, count] : statuses)
    if (status != "done") text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, status);
  return text;
}

std::vector<Cell> cells_of(const std::vector<Run>& runs) {
  std::vector<std::vector<const Run*>> groups;
  std::map<std::string, size_t> index;
  for (const Run& run : runs) {
    const auto [place, is_new] = index.emplace(run.cell, groups.size());
    if (is_new) groups.emplace_back();
    groups[place->second].push_back(&run);
  }
  std::vector<Cell> cells;
  for (const auto& group : groups) {
    const Run& first = **std::max_element(group.begin(), group.end(),
                                          [](const Run* a, const Run* b) { return a->sound() < b->sound(); });
    Cell cell{.key = first.cell,
              .variant = first.variant,
              .settings = first.settings,
              .task = first.task,
              .depth = first.depth,
              .model_dim = first.model_dim,
              .params = first.params,
              .tokens = first.tokens,
              .flops = first.flops,
              .state_bytes = first.state_bytes,
              .runs = group.size(),
              .loss = {},
              .excess = {},
              .accuracy = {},
              .trouble = {}};
    std::vector<double> losses, excesses, accuracies;
    std::map<std::string, size_t> statuses;
    for (const Run* run : group) {
      ++statuses[run->done() && !run->flags.empty() ? "flagged" : run->status];
      if (!run->sound()) continue;
      losses.push_back(*run->loss);
      if (run->excess) excesses.push_back(*run->excess);
      if (run->accuracy && run->chance_accuracy) accuracies.push_back(*run->accuracy);
    }
    if (!losses.empty()) cell.loss = spread_of(losses);
    if (!excesses.empty()) cell.excess = spread_of(excesses);
    if (!accuracies.empty()) cell.accuracy = spread_of(accuracies);
    cell.trouble = trouble_text(statuses);
    cells.push_back(std::move(cell));
  }
  return cells;
}

/// @param forms  by name, as scaling.json holds them
void add_laws(const Json& forms, const std::string& series, bool paired, std::vector<Law>& laws) {
  if (!forms.is_object()) return;
  for (const auto& [form, values] : forms.items()) {
    if (!number_at(values, "E")) continue;
    Law law{.series = series,
            .form = form,
            .paired = paired,
            .no_law = values.contains("no_law"),
            .irreducible = *number_at(values, "E"),
            .a = number_at(values, "A").value_or(0),
            .alpha = number_at(values, "alpha").value_or(0),
            .b = number_at(values, "B").value_or(0),
            .beta = number_at(values, "beta").value_or(0),
            .intervals = {}};
    for (const auto& [name, interval] : at_path(values, "intervals").items())
      if (interval.is_array() && interval.size() == 2 && interval[0].is_number() && interval[1].is_number())
        law.intervals[name] = {interval[0].get<double>(), interval[1].get<double>()};
    // The interval that the verdict on the truth rests on has the validation tokens' error in it.
    const Json& widened = at_path(values, "truth.interval");
    if (law.intervals.count("E") && widened.is_array() && widened.size() == 2 && widened[0].is_number() &&
        widened[1].is_number())
      law.intervals["E"] = {widened[0].get<double>(), widened[1].get<double>()};
    laws.push_back(std::move(law));
  }
}

std::vector<Law> laws_of(const Json& scaling) {
  std::vector<Law> laws;
  const Json& fits = at_path(scaling, "fits");
  if (!fits.is_object()) return laws;
  for (const auto& [series, fit] : fits.items()) {
    add_laws(at_path(fit, "forms"), series, false, laws);
    add_laws(at_path(fit, "paired.forms"), series, true, laws);
  }
  return laws;
}

std::optional<KnownTruth> truth_of(const Json& scaling, const std::vector<Json>& rows,
                                   std::vector<std::string>& notes) {
  std::set<double> values;
  Json found;
  const auto add = [&](const Json& truth) {
    const auto value =
        number_at(truth, "bayes_loss") ? number_at(truth, "bayes_loss") : number_at(truth, "entropy_rate");
    if (value && values.insert(*value).second) found = truth;
  };
  for (const Json& row : rows) add(at_path(row, "truth"));
  if (values.empty()) add(at_path(scaling, "truth"));
  if (values.size() > 1) {
    notes.push_back(
        fmt::format("The runs know {} different true entropies (data or context was swept), so no single "
                    "line of truth is drawn.",
                    values.size()));
  }
  if (values.size() != 1) return std::nullopt;
  const bool bayes = number_at(found, "bayes_loss").has_value();
  return KnownTruth{*values.begin(), bayes ? "Bayes loss" : "entropy rate", text_at(found, "derivation")};
}

auto order_of(const Run& run) {
  return std::make_tuple(run.variant != "softmax", run.variant, run.depth.value_or(0), run.model_dim.value_or(0),
                         run.tokens.value_or(0), run.settings, run.seed.value_or(0), run.id);
}

}  // namespace

double Law::at(double n, double d) const {
  return irreducible + (a != 0 ? a * std::pow(n, -alpha) : 0) + (b != 0 ? b * std::pow(d, -beta) : 0);
}

size_t Sweep::count(const std::string& status) const {
  return static_cast<size_t>(
      std::count_if(runs.begin(), runs.end(), [&](const Run& run) { return run.status == status; }));
}

const Law* Sweep::law(const std::string& series, const std::string& form, bool paired) const {
  const auto found = std::find_if(laws.begin(), laws.end(), [&](const Law& law) {
    return law.series == series && law.form == form && law.paired == paired;
  });
  return found == laws.end() ? nullptr : &*found;
}

Sweep read_sweep(const fs::path& folder) {
  Sweep sweep;
  auto results = read_result_rows(folder);
  sweep.notes = std::move(results.notes);
  sweep.spec = read_optional(folder / "spec.json", sweep.notes);
  const Json plan = read_optional(folder / "plan.json", sweep.notes);
  sweep.scaling = read_optional(folder / "scaling.json", sweep.notes);
  if (fs::exists(folder / "certificate.json"))
    sweep.certificate = read_optional(folder / "certificate.json", sweep.notes);
  for (const Json& variant : at_path(sweep.certificate, "variants"))
    if (at_path(variant, "passed") == false)
      sweep.notes.push_back(
          fmt::format("{} is not proven: checks of its certificate fail (certificate.json), so its "
                      "runs may not be what their name says.",
                      text_at(variant, "name")));
  if (sweep.spec.is_object() && sweep.spec.contains("claims")) {
    try {
      sweep.claims = claims_report(folder);
    } catch (const Error& error) {  // of the claims alone: the rest of the report stands
      sweep.notes.push_back(fmt::format("The claims of the spec are not decided: {}", error.what()));
    }
  }
  sweep.name = text_at(sweep.spec, "name");
  if (sweep.name.empty()) sweep.name = text_at(plan, "name");
  if (sweep.name.empty()) sweep.name = fs::weakly_canonical(folder).filename().string();
  if (at_path(plan, "runs").is_array()) sweep.planned = at_path(plan, "runs").size();

  const auto labels = variant_labels(results.rows);
  auto settings = settings_of(plan);
  std::vector<std::pair<Run, Json>> both;
  for (size_t i = 0; i < results.rows.size(); ++i) {
    Run run = run_of(results.rows[i]);
    run.variant = labels[i].empty() ? "(unnamed)" : labels[i];
    run.settings = settings[run.id];
    both.emplace_back(std::move(run), std::move(results.rows[i]));
  }
  std::sort(both.begin(), both.end(),
            [](const auto& a, const auto& b) { return order_of(a.first) < order_of(b.first); });
  for (auto& [run, row] : both) {
    if (sweep.variants.empty() || sweep.variants.back() != run.variant) sweep.variants.push_back(run.variant);
    sweep.runs.push_back(std::move(run));
    sweep.rows.push_back(std::move(row));
  }
  sweep.cells = cells_of(sweep.runs);
  std::vector<std::string> names;
  for (const Run& run : sweep.runs) names.push_back(run.variant);
  sweep.pairs = paired_runs(sweep.rows, names);
  sweep.laws = laws_of(sweep.scaling);
  sweep.truth = truth_of(sweep.scaling, sweep.rows, sweep.notes);
  return sweep;
}

}  // namespace attnscale

#include "scaling/fit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "scaling/collapse.h"
#include "scaling/envelope.h"
#include "scaling/fit_form.h"
#include "scaling/identifiability.h"
#include "scaling/isoflop.h"
#include "scaling/model_comparison.h"
#include "scaling/power_law.h"

namespace attnscale {
namespace {

std::vector<double> column(const std::vector<Point>& points, double Point::*member) {
  std::vector<double> values;
  for (const auto& point : points) values.push_back(point.*member);
  return values;
}

/// `2 of 24 runs did not finish and are not fitted: diverged (N = 1000, D = 5000, softmax, seed 3)`
std::string unfinished_flag(const std::vector<Point>& points) {
  std::vector<std::string> names;
  for (const auto& point : points) {
    if (point.done() || point.status == "stopped") continue;
    auto name = fmt::format("{} {} (", point.run.empty() ? point.place : point.run, point.status);
    if (!point.variant.empty()) name += point.variant + ", ";
    names.push_back(fmt::format("{}N = {:.6g}, D = {:.6g}, seed {})", name, point.N, point.D, point.seed));
  }
  if (names.empty()) return "";
  const size_t shown = std::min<size_t>(names.size(), 10);
  return fmt::format(
      "{} of {} points did not finish and are not in the fit, which therefore sees only what trained well: "
      "{}{}; lower their learning rate and run them again",
      names.size(), points.size(), fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), "; "),
      names.size() > shown ? fmt::format("; and {} more", names.size() - shown) : "");
}

/// `3 of 24 runs were stopped early ...`; empty when none was.
std::string stopped_note(const std::vector<Point>& points) {
  const auto count = std::count_if(points.begin(), points.end(), [](const Point& p) { return p.status == "stopped"; });
  if (count == 0) return "";
  return fmt::format(
      "{} of {} runs were stopped early by the spec's rule and are not in the fit: under a schedule that falls, a run "
      "cut "
      "short is no run of that length, and those that were stopped are the worse ones of their groups",
      count, points.size());
}

/// `3 of 24 points carry flags (finite divergence: 3) and are not in the fit`; empty when none does.
std::string flagged_note(const std::vector<Point>& points, bool kept) {
  std::map<std::string, int> reasons;
  int count = 0;
  for (const auto& point : points) {
    if (!point.done() || point.flags.empty()) continue;
    ++count;
    for (const auto& reason : point.flags) ++reasons[reason];
  }
  if (count == 0) return "";
  std::vector<std::string> names;
  for (const auto& [reason, times] : reasons) names.push_back(fmt::format("{}: {}", reason, times));
  return fmt::format(
      "{} of {} points carry flags ({}) and {}", count, points.size(), fmt::join(names, ", "),
      kept ? "are in the fit all the same, as --keep-flagged asks"
           : "are not in the fit; look at their learning curves, and fit with --keep-flagged to keep them");
}

/// @throws ConfigError for a known irreducible loss that a run has already beaten
void check_fixed_E(const std::vector<Point>& done, const FitReportOptions& options) {
  if (!options.fixed_E || done.empty()) return;
  const auto lowest =
      std::min_element(done.begin(), done.end(), [](const Point& a, const Point& b) { return a.L < b.L; });
  if (*options.fixed_E < lowest->L) return;
  throw ConfigError(
      fmt::format("--fixed-irreducible {:.6g}: is not below the lowest loss {:.6g} ({}); no loss can reach the "
                  "irreducible one; give a "
                  "value below it, or leave the flag out and fit it",
                  *options.fixed_E, lowest->L, lowest->place.empty() ? lowest->run : lowest->place));
}

/// What the paired fit says about E, to stand beside the verdict of the raw one.
Json paired_summary(const Json& sharper) {
  Json summary = Json::object();
  if (sharper.contains("E")) summary["E"] = sharper["E"];
  for (const char* key : {"interval", "covered"})
    if (sharper.contains("truth") && sharper["truth"].contains(key)) summary[key] = sharper["truth"][key];
  return summary;
}

/// The one-variable form of `points`; `held` is the variable that should be the same everywhere.
Form one_variable(const std::string& symbol, std::vector<Point> points, double Point::*along, double Point::*held,
                  const std::string& choice) {
  Form form{.name = "L(" + symbol + ")",
            .symbols = {symbol},
            .exponents = {"alpha"},
            .x = {column(points, along)},
            .losses = column(points, &Point::L),
            .points = std::move(points),
            .choice = choice,
            .flags = {}};
  const auto others = column(form.points, held);
  if (others.front() > 0 && distinct_values(others) > 1) {
    const char* other = symbol == "N" ? "D" : "N";
    form.flags.push_back({"mixes_N_and_D", Severity::warning,
                          fmt::format("the points differ in {} too (by {:.3g}x): the exponent mixes both; run every {} "
                                      "at the same {}",
                                      other, span(others), symbol, other)});
  }
  return form;
}

/// Training FLOPs; where a table has only one of N and D, that one.
double compute_of(const Point& point) {
  if (point.C > 0) return point.C;
  return point.N > 0 && point.D > 0 ? 6 * point.N * point.D : std::max(point.N, point.D);
}

// Comparing laws fits each of them twice; beyond this it takes longer than the rest of the report.
constexpr size_t compared_points = 1000;

/// With the floor that is known or else fitted, and the tokens that the fit holds for best.
Json collapse_of(const std::vector<Point>& done, const FitReportOptions& options, const Json& report) {
  const auto& forms = report["forms"];
  const auto joint = forms.find("L(N,D)");
  const bool has_joint = joint != forms.end() && !joint->contains("no_law");
  std::optional<double> E = options.fixed_E ? options.fixed_E : options.true_bayes_loss;
  if (!E && has_joint && joint->contains("E")) E = (*joint)["E"].get<double>();
  if (!E) return nullptr;
  if (!has_joint || !joint->contains("compute_optimal")) return collapse_report(done, *E);
  const double A = (*joint)["A"], alpha = (*joint)["alpha"], B = (*joint)["B"], beta = (*joint)["beta"];
  // alpha A N^-alpha = beta B D^-beta along the optimum.
  return collapse_report(done, *E,
                         [=](double N) { return std::pow(beta * B / (alpha * A) * std::pow(N, alpha), 1 / beta); });
}

/// L(C) along the compute frontier, IsoFLOP minima where runs share budgets, learning curves, and laws against each
/// other.
template <class TryForm>
void add_compute_forms(const std::vector<Point>& done, bool floor_is_free, const FitReportOptions& options,
                       const TryForm& try_form, Json& report) {
  if (distinct_values(column(done, &Point::N)) > 1 && distinct_values(column(done, &Point::D)) > 1) {
    auto frontier = compute_frontier(done);
    Form form{.name = "L(C)",
              .symbols = {"C"},
              .exponents = {"alpha"},
              .x = {column(frontier, &Point::C)},
              .losses = column(frontier, &Point::L),
              .points = frontier,
              .choice = "for each variant, those that no cheaper one beats",
              .flags = {}};
    auto check = identify_power_law(form.x[0], floor_is_free, "C");
    if (check.refusal.empty()) try_form(std::move(form), std::move(check));
  }
  const bool both = done.front().N > 0 && done.front().D > 0;
  if (auto isoflop = both ? isoflop_report(done) : Json(); !isoflop.is_null()) report["isoflop"] = std::move(isoflop);
  if (done.size() > compared_points) return;
  if (auto envelope = envelope_report(done, options.delta); !envelope.is_null())
    report["envelope"] = std::move(envelope);
  if (auto collapse = collapse_of(done, options, report); !collapse.is_null()) report["collapse"] = std::move(collapse);
  std::vector<double> compute;
  for (const auto& point : done) compute.push_back(compute_of(point));
  if (auto laws = compare_laws(candidate_laws(done), column(done, &Point::L), compute, independent_groups(done),
                               {.delta = options.delta,
                                .fixed_E = options.fixed_E,
                                .held_out_above = options.held_out_above,
                                .intervals = options.replicates > 0});
      laws.size() > 1)
    report["laws"] = std::move(laws);
}

}  // namespace

std::vector<Point> compute_frontier(std::vector<Point> points) {
  for (auto& point : points) point.C = compute_of(point);
  std::stable_sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.C < b.C; });
  // Seeds of one cell stand or fall together, by their mean.
  std::map<std::pair<std::string, std::pair<double, double>>, std::pair<double, int>> cells;
  for (const auto& point : points) {
    auto& [sum, count] = cells[{point.variant, {point.N, point.D}}];
    sum += point.L;
    ++count;
  }
  const auto mean_of = [&](const Point& point) {
    const auto& [sum, count] = cells[{point.variant, {point.N, point.D}}];
    return sum / count;
  };
  std::map<std::string, double> lowest;
  std::vector<Point> frontier;
  for (const auto& point : points) {
    auto& best = lowest.try_emplace(point.variant, std::numeric_limits<double>::infinity()).first->second;
    if (mean_of(point) > best) continue;
    best = mean_of(point);
    frontier.push_back(point);
  }
  return frontier;
}

Json fit_report(const std::vector<Point>& points, const FitReportOptions& options) {
  std::vector<Point> done;
  std::set<std::string> runs, variants;
  for (const auto& point : points) {
    if (!point.done() || (!options.keep_flagged && !point.flags.empty())) continue;
    done.push_back(point);
    runs.insert(point.run.empty() ? point.place + fmt::format("#{}", done.size()) : "run " + point.run);
    variants.insert(point.variant);
  }
  check_fixed_E(done, options);
  Json report = {{"n_points", done.size()}, {"n_runs", runs.size()}, {"n_cells", 0}, {"forms", Json::object()}};
  Flags flags;
  if (auto flag = unfinished_flag(points); !flag.empty())
    flags.push_back({"unfinished_runs", Severity::warning, std::move(flag)});
  if (auto flag = stopped_note(points); !flag.empty())
    flags.push_back({"stopped_runs", Severity::note, std::move(flag)});
  if (auto flag = flagged_note(points, options.keep_flagged); !flag.empty())
    flags.push_back({"flagged_runs", Severity::warning, std::move(flag)});
  const bool has_N = !done.empty() && done.front().N > 0, has_D = !done.empty() && done.front().D > 0;
  if (done.empty())
    flags.push_back({"nothing_fitted", Severity::error, "nothing is fitted: no run is done; finish some"});
  else {
    const auto cells = design_cells(column(done, &Point::N), column(done, &Point::D));
    report["n_cells"] = 1 + *std::max_element(cells.begin(), cells.end());
  }
  Flags mixed;
  if (variants.size() > 1)
    mixed.push_back({"mixes_variants", Severity::note,
                     fmt::format("mixes {} variants ({}): their differences count as misfit of one common law; read "
                                 "the fits per variant",
                                 variants.size(), fmt::join(variants, ", "))});

  const bool paired =
      !done.empty() && std::all_of(done.begin(), done.end(), [](const Point& point) { return point.paired_L > 0; });
  const auto try_form = [&](Form form, Identifiability check) {
    if (!check.refusal.empty()) {
      flags.push_back(
          {"not_fitted_" + form.name, Severity::error, fmt::format("{} is not fitted: {}", form.name, check.refusal)});
      return;
    }
    form.flags.insert(form.flags.begin(), mixed.begin(), mixed.end());
    form.flags.insert(form.flags.end(), check.flags.begin(), check.flags.end());
    report["forms"][form.name] = fit_form(form, options);
    if (!paired) return;
    form.losses = column(form.points, &Point::paired_L);
    form.flags.clear();
    auto paired_options = options;
    paired_options.validation_error.reset();  // it cancels
    const Json sharper = report["paired"]["forms"][form.name] = fit_form(form, paired_options);
    if (auto& fitted = report["forms"][form.name]; fitted.contains("truth"))
      fitted["truth"]["paired"] = paired_summary(sharper);
  };
  const bool floor_is_free = !options.fixed_E;
  if (has_N && has_D) {
    Form form{.name = "L(N,D)",
              .symbols = {"N", "D"},
              .exponents = {"alpha", "beta"},
              .x = {column(done, &Point::N), column(done, &Point::D)},
              .losses = column(done, &Point::L),
              .points = done,
              .choice = "all",
              .flags = {}};
    auto check = identify_parametric(form.x[0], form.x[1], floor_is_free);
    try_form(std::move(form), std::move(check));
  }
  if (has_N) {
    auto form = one_variable("N", largest_tokens_of_each_size(done), &Point::N, &Point::D,
                             "for each variant and N, those with the most tokens");
    auto check = identify_power_law(form.x[0], floor_is_free, "N");
    try_form(std::move(form), std::move(check));
  }
  if (has_D) {
    auto form = one_variable("D", largest_size_of_each_tokens(done), &Point::D, &Point::N,
                             "for each variant and D, those with the most parameters");
    auto check = identify_power_law(form.x[0], floor_is_free, "D");
    try_form(std::move(form), std::move(check));
  }
  if (has_N || has_D) add_compute_forms(done, floor_is_free, options, try_form, report);
  report["flags"] = to_json(flags);
  Doubts doubts;
  add_doubts(report, "", doubts);
  report["doubts"] = doubts.list();
  return report;
}

}  // namespace attnscale

#include "scaling/fit.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "scaling/bootstrap.h"
#include "scaling/identifiability.h"
#include "scaling/power_law.h"
#include "scaling/statistics.h"

namespace attnscale {
namespace {

using Flags = std::vector<std::string>;

/// A quantity of a law by the name that the JSON gives it.
struct Quantity {
  std::string name;
  std::function<double(const PowerSum&)> of;
};

std::vector<Quantity> quantities(const std::vector<std::string>& exponents) {
  static const char* coefficients[] = {"A", "B", "C"};
  std::vector<Quantity> list = {{"E", [](const PowerSum& law) { return std::exp(law.log_floor); }}};
  for (size_t k = 0; k < exponents.size(); ++k)
    list.push_back({coefficients[k], [k](const PowerSum& law) { return std::exp(law.terms[k].log_coefficient); }});
  for (size_t k = 0; k < exponents.size(); ++k)
    list.push_back({exponents[k], [k](const PowerSum& law) { return law.terms[k].exponent; }});
  return list;
}

/// One law to be fitted: its variables with their names, and the points.
struct Form {
  std::string name;
  std::vector<std::string> symbols, exponents;  ///< {"N", "D"}, {"alpha", "beta"}
  std::vector<std::vector<double>> x;           ///< one column per variable
  std::vector<Point> points;
  std::string choice;  ///< which points, in words
  Flags flags;
};

std::vector<double> column(const std::vector<Point>& points, double Point::*member) {
  std::vector<double> values;
  for (const auto& point : points) values.push_back(point.*member);
  return values;
}

/// What is suspicious about the optimum itself.
void flag_optimum(const Form& form, const PowerSum& law, const Minimum& optimum, double smallest_loss, double rms,
                  bool floor_is_free, Flags& flags) {
  if (!(optimum.gradient_norm < 1e-8))
    flags.push_back(
        fmt::format("the walk ended with a gradient of {:.1e}, above 1e-8: the optimum is not certain; "
                    "look for outliers or add points",
                    optimum.gradient_norm));
  if (floor_is_free && std::exp(law.log_floor) < 1e-3 * smallest_loss)
    flags.push_back(
        "E is at its lower bound 0: the points show no floor; run larger sizes and more tokens until the "
        "curve bends, or fix E");
  for (size_t k = 0; k < form.symbols.size(); ++k) {
    const auto& symbol = form.symbols[k];
    const auto& term = law.terms[k];
    const auto [smallest, largest] = std::minmax_element(form.x[k].begin(), form.x[k].end());
    const auto term_at = [&](double x) { return std::exp(term.log_coefficient - term.exponent * std::log(x)); };
    // An exponent near 0 turns the term into a second floor, as a vanished coefficient does.
    if (std::abs(term_at(*smallest) - term_at(*largest)) < std::max(1e-4, rms) * smallest_loss)
      flags.push_back(
          fmt::format("the loss does not depend on {} by more than the residuals scatter: {}, its coefficient and E "
                      "cannot be told apart; widen the span of {}",
                      symbol, form.exponents[k], symbol));
    else if (term.exponent <= 0)
      flags.push_back(
          fmt::format("the loss does not fall with {} ({} = {:.3g}): this is no scaling law; check the "
                      "learning rate of the larger runs",
                      symbol, form.exponents[k], term.exponent));
    else if (term.exponent > 3)
      flags.push_back(fmt::format("{} = {:.3g}: only the smallest {} differs from the rest; add values near it",
                                  form.exponents[k], term.exponent, symbol));
  }
}

/// F test of the law against the scatter of seeds, where cells have several; flags a misfit.
void add_lack_of_fit(const std::vector<double>& residuals, const std::vector<int>& group, int parameters, Json& out,
                     Flags& flags) {
  std::map<int, std::vector<double>> cells;
  for (size_t i = 0; i < residuals.size(); ++i) cells[group[i]].push_back(residuals[i]);
  double within = 0, between = 0;
  for (const auto& [number, values] : cells) {
    const double centre = mean(values);
    for (const double value : values) within += (value - centre) * (value - centre);
    between += static_cast<double>(values.size()) * centre * centre;
  }
  const auto count = static_cast<double>(cells.size());
  const double fit_freedom = count - parameters, seed_freedom = static_cast<double>(residuals.size()) - count;
  if (fit_freedom < 1 || seed_freedom < 1 || within <= 0) return;
  const double f = (between / fit_freedom) / (within / seed_freedom);
  const double p = f_upper_tail(f, fit_freedom, seed_freedom);
  if (!std::isfinite(f)) return;
  out["lack_of_fit"] = {{"F", f}, {"freedom", {fit_freedom, seed_freedom}}, {"p", p}};
  out["seed_noise"] = std::sqrt(within / seed_freedom);
  if (p < 0.01)
    flags.push_back(
        fmt::format("lack of fit: cells miss the law by more than their seeds scatter (F = {:.3g}, p = {:.1g}); "
                    "the intervals include it as random, but E and the exponents may be biased; drop the "
                    "smallest runs, tune the learning rate per size, or train longer",
                    f, p));
}

void add_intervals(const Form& form, const Bootstrap& resampled, double smallest_loss, bool floor_is_free, Json& out,
                   Flags& flags) {
  out["resampling"] = {{"method", resampled.method == Resampling::residuals ? "residuals of cells" : "whole runs"},
                       {"groups", resampled.groups},
                       {"replicates", resampled.laws.size()},
                       {"level", 0.95}};
  if (resampled.laws.empty()) {
    flags.push_back(fmt::format("no intervals: {} independent {} leave nothing to resample; add {}", resampled.groups,
                                resampled.groups == 1 ? "group" : "groups", "sizes or token counts"));
    return;
  }
  Json intervals = Json::object();
  for (const auto& quantity : quantities(form.exponents)) {
    if (quantity.name == "E" && !floor_is_free) continue;
    if (quantity.name == "E" && out.contains("E") && out["E"].get<double>() < 1e-3 * smallest_loss) {
      flags.push_back(
          "no interval of E: with the optimum at the bound, resampling does not say how far E may be above it");
      continue;
    }
    std::vector<double> values;
    for (const auto& law : resampled.laws)
      if (const double value = quantity.of(law); std::isfinite(value)) values.push_back(value);
    // A few replicates that overflow are the interval's open end, not a reason to be silent.
    if (values.size() < resampled.laws.size() * 0.99) {
      flags.push_back(
          fmt::format("the interval of {} is unbounded: {} of {} replicates have no finite value; widen the "
                      "spans",
                      quantity.name, resampled.laws.size() - values.size(), resampled.laws.size()));
      continue;
    }
    const auto interval = percentile_interval(values, 0.95);
    intervals[quantity.name] = {interval.low, interval.high};
    if (quantity.name == "E" && interval.low < 1e-3 * smallest_loss)
      flags.push_back(
          "the interval of E reaches 0: the points do not bound the floor from below; run larger sizes and "
          "more tokens");
    const bool is_exponent =
        std::find(form.exponents.begin(), form.exponents.end(), quantity.name) != form.exponents.end();
    if (is_exponent && (interval.low <= 0 || interval.high - interval.low > 2))
      flags.push_back(
          fmt::format("the interval of {} is [{:.3g}, {:.3g}]: the points hardly determine it; widen the "
                      "span of {}",
                      quantity.name, interval.low, interval.high,
                      form.symbols[quantity.name == form.exponents.front() ? 0 : form.symbols.size() - 1]));
  }
  out["intervals"] = std::move(intervals);
}

void add_truth(const Form& form, double truth, Json& out, Flags& flags) {
  Json known = {{"bayes_loss", truth}};
  const auto& intervals = out.contains("intervals") ? out["intervals"] : Json::object();
  if (intervals.contains("E"))
    known["covered"] = intervals["E"][0].get<double>() <= truth && truth <= intervals["E"][1].get<double>();
  out["truth"] = std::move(known);
  if (form.symbols.size() == 1)
    flags.push_back(fmt::format(
        "E of {} holds what the other variable leaves unlearned: expect it above the true {:.6g}", form.name, truth));
}

Json fit_form(const Form& form, const FitReportOptions& options) {
  const auto losses = column(form.points, &Point::L);
  PowerSumObjective objective(form.x, losses, options.delta, options.fixed_E);
  const bool floor_is_free = objective.floor_is_free();
  const auto starts = form.x.size() == 2 ? parametric_starts(floor_is_free) : power_law_starts(floor_is_free);
  const auto fit = fit_law(objective, starts, form.name);
  const auto& law = fit.law;
  const double smallest_loss = *std::min_element(losses.begin(), losses.end());

  Json out;
  Flags flags = form.flags;
  for (const auto& quantity : quantities(form.exponents)) {
    const double value = quantity.of(law);
    if (std::isfinite(value)) out[quantity.name] = value;
    else
      flags.push_back(
          fmt::format("{} is too large for a number: the law has degenerated; widen the spans", quantity.name));
  }
  if (!floor_is_free) out["E_fixed"] = true;
  out["objective"] = fit.objective;
  out["gradient_norm"] = fit.gradient_norm;
  out["n_points"] = form.points.size();
  const auto zeros = std::vector<double>(losses.size(), 0.0);
  const auto design = design_cells(form.x.front(), form.x.size() > 1 ? form.x[1] : zeros);
  out["n_cells"] = 1 + *std::max_element(design.begin(), design.end());
  out["starts"] = fit.starts;
  out["points"] = form.choice;

  std::vector<double> residuals = objective.log_predictions(fit.optimum.at);
  double squares = 0;
  for (size_t i = 0; i < residuals.size(); ++i) {
    residuals[i] = objective.log_losses()[i] - residuals[i];
    squares += residuals[i] * residuals[i];
  }
  const double rms = std::sqrt(squares / static_cast<double>(residuals.size()));
  out["rms_log_residual"] = rms;
  flag_optimum(form, law, fit.optimum, smallest_loss, rms, floor_is_free, flags);
  const auto group = independent_groups(form.points);
  if (options.replicates > 0) {
    // Huge tables get fewer replicates, so that a million rows still end within minutes.
    const int affordable = std::max(100, static_cast<int>(2e7 / static_cast<double>(losses.size())));
    const auto resampled =
        bootstrap(objective, fit.optimum, group, design, {std::min(options.replicates, affordable), options.seed});
    add_intervals(form, resampled, smallest_loss, floor_is_free, out, flags);
    if (resampled.method == Resampling::residuals) add_lack_of_fit(residuals, group, objective.num_free(), out, flags);
  }
  if (options.true_bayes_loss && floor_is_free) add_truth(form, *options.true_bayes_loss, out, flags);
  out["flags"] = flags;
  return out;
}

/// `2 of 24 runs did not finish and are not fitted: diverged (N = 1000, D = 5000, softmax, seed 3)`
std::string unfinished_flag(const std::vector<Point>& points) {
  std::vector<std::string> names;
  for (const auto& point : points) {
    if (point.done()) continue;
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

/// The one-variable form of `points`; `held` is the variable that should be the same everywhere.
Form one_variable(const std::string& symbol, std::vector<Point> points, double Point::*along, double Point::*held,
                  const std::string& choice) {
  Form form{.name = "L(" + symbol + ")",
            .symbols = {symbol},
            .exponents = {"alpha"},
            .x = {column(points, along)},
            .points = std::move(points),
            .choice = choice,
            .flags = {}};
  const auto others = column(form.points, held);
  if (others.front() > 0 && distinct_values(others) > 1) {
    const char* other = symbol == "N" ? "D" : "N";
    form.flags.push_back(
        fmt::format("the points differ in {} too (by {:.3g}x): the exponent mixes both; run every {} at "
                    "the same {}",
                    other, span(others), symbol, other));
  }
  return form;
}

}  // namespace

Json fit_report(const std::vector<Point>& points, const FitReportOptions& options) {
  std::vector<Point> done;
  std::set<std::string> runs, variants;
  for (const auto& point : points) {
    if (!point.done()) continue;
    done.push_back(point);
    runs.insert(point.run.empty() ? point.place + fmt::format("#{}", done.size()) : "run " + point.run);
    variants.insert(point.variant);
  }
  Json report = {{"n_points", done.size()}, {"n_runs", runs.size()}, {"n_cells", 0}, {"forms", Json::object()}};
  Flags flags;
  if (auto flag = unfinished_flag(points); !flag.empty()) flags.push_back(std::move(flag));
  const bool has_N = !done.empty() && done.front().N > 0, has_D = !done.empty() && done.front().D > 0;
  if (done.empty()) flags.push_back("nothing is fitted: no run is done");
  else {
    const auto cells = design_cells(column(done, &Point::N), column(done, &Point::D));
    report["n_cells"] = 1 + *std::max_element(cells.begin(), cells.end());
  }
  Flags mixed;
  if (variants.size() > 1)
    mixed.push_back(
        fmt::format("mixes {} variants ({}): their differences count as misfit of one common law; read the "
                    "fits per variant",
                    variants.size(), fmt::join(variants, ", ")));

  const auto try_form = [&](Form form, Identifiability check) {
    if (!check.refusal.empty()) {
      flags.push_back(fmt::format("{} is not fitted: {}", form.name, check.refusal));
      return;
    }
    form.flags.insert(form.flags.begin(), mixed.begin(), mixed.end());
    form.flags.insert(form.flags.end(), check.flags.begin(), check.flags.end());
    report["forms"][form.name] = fit_form(form, options);
  };
  const bool floor_is_free = !options.fixed_E;
  if (has_N && has_D) {
    Form form{.name = "L(N,D)",
              .symbols = {"N", "D"},
              .exponents = {"alpha", "beta"},
              .x = {column(done, &Point::N), column(done, &Point::D)},
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
  report["flags"] = flags;
  return report;
}

}  // namespace attnscale

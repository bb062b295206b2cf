#include "scaling/fit_form.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "scaling/bootstrap.h"
#include "scaling/derived.h"
#include "scaling/identifiability.h"
#include "scaling/lack_of_fit.h"
#include "scaling/law_intervals.h"
#include "scaling/power_law.h"
#include "scaling/statistics.h"
#include "scaling/trend.h"
#include "scaling/variable_projection.h"

namespace attnscale {
namespace {

// Of a lowest loss of 1.7, 1e-3 is .0017: what is left of E then is smaller than seeds scatter.
constexpr double bound_share = 1e-3;

/// What is suspicious about the optimum itself.
void flag_optimum(const Form& form, const PowerSum& law, const Minimum& optimum, double smallest_loss, double rms,
                  bool floor_is_free, Flags& flags) {
  if (!(optimum.gradient_norm < 1e-8))
    flags.push_back({"not_converged", Severity::error,
                     fmt::format("the walk ended with a gradient of {:.1e}, above 1e-8: the optimum is not certain; "
                                 "look for outliers or add points",
                                 optimum.gradient_norm)});
  if (floor_is_free && std::exp(law.log_floor) < bound_share * smallest_loss)
    flags.push_back({"no_floor", Severity::warning,
                     "E is at its lower bound 0: the points show no floor; run larger sizes and more tokens until the "
                     "curve bends, or fix E"});
  for (size_t k = 0; k < form.symbols.size(); ++k) {
    const auto& symbol = form.symbols[k];
    const auto& term = law.terms[k];
    const auto [smallest, largest] = std::minmax_element(form.x[k].begin(), form.x[k].end());
    const auto term_at = [&](double x) { return std::exp(term.log_coefficient - term.exponent * std::log(x)); };
    // An exponent near 0 turns the term into a second floor, as a vanished coefficient does.
    if (std::abs(term_at(*smallest) - term_at(*largest)) < std::max(1e-4, rms) * smallest_loss)
      flags.push_back({"independent_of_" + symbol, Severity::error,
                       fmt::format("the loss does not depend on {} by more than the residuals scatter: {}, its "
                                   "coefficient and E cannot be told apart; widen the span of {}",
                                   symbol, form.exponents[k], symbol)});
    else if (term.exponent <= 0)
      flags.push_back({"no_fall_" + symbol, Severity::error,
                       fmt::format("the loss does not fall with {} ({} = {:.3g}): this is no scaling law; check the "
                                   "learning rate of the larger runs",
                                   symbol, form.exponents[k], term.exponent)});
    else if (term.exponent > 3)
      flags.push_back({"one_value_decides_" + symbol, Severity::warning,
                       fmt::format("{} = {:.3g}: only the smallest {} differs from the rest; add values near it",
                                   form.exponents[k], term.exponent, symbol)});
  }
}

/// F test of the law against the scatter of seeds, where cells have several; flags a misfit.
void add_lack_of_fit(const Form& form, const std::vector<int>& group, const FitReportOptions& options,
                     const PowerSum& law, Json& out, Flags& flags) {
  const auto test = lack_of_fit(form.x, form.losses, group, options.fixed_E, law);
  if (!test) return;
  out["lack_of_fit"] = {{"F", test->F}, {"freedom", {test->fit_freedom, test->seed_freedom}}, {"p", test->p}};
  out["seed_noise"] = test->seed_noise;
  if (test->p < 0.01)
    flags.push_back(
        {"lack_of_fit", Severity::warning,
         fmt::format("lack of fit: cells miss the law by more than their seeds scatter (F = {:.3g}, p = {:.1g}); "
                     "the intervals include it as random, but E and the exponents may be biased; drop the "
                     "smallest runs, tune the learning rate per size, or train longer",
                     test->F, test->p)});
}

/// A 95 % interval of each quantity that the points determine.
class IntervalWriter {
 public:
  IntervalWriter(const Form& form, const LawIntervals& intervals, const std::vector<Trend>& trends,
                 double smallest_loss, Flags& flags)
      : form_(form), intervals_(intervals), trends_(trends), floor_(bound_share * smallest_loss), flags_(flags) {}

  void write(const PowerSum& law, bool floor_is_free, Json& out) {
    Json found = Json::object(), resampled = Json::object();
    for (const auto& quantity : law_quantities(form_.exponents)) {
      const double value = quantity.of(law);
      if (quantity.name == "E" && !may_have_floor(value, floor_is_free)) continue;
      if (const auto k = variable_of(quantity.name); k && !trends_[*k].falls) continue;
      if (const auto interval = intervals_.by_bootstrap(quantity))
        resampled[quantity.name] = {interval->low, interval->high};
      const auto interval = intervals_.of(quantity, value);
      if (!interval) {
        const auto k = variable_of(quantity.name);
        flags_.push_back({"unbounded_" + (k ? form_.symbols[*k] : quantity.name), Severity::warning,
                          fmt::format("the interval of {} is unbounded: the points do not determine it; widen the {}",
                                      quantity.name, k ? "span of " + form_.symbols[*k] : "spans")});
        continue;
      }
      found[quantity.name] = {interval->low, interval->high};
      flag_width(quantity.name, *interval);
    }
    out["interval_method"] = intervals_.method();
    out["intervals"] = std::move(found);
    out["bootstrap_intervals"] = std::move(resampled);
  }

 private:
  /// Which variable a coefficient or an exponent belongs to; nothing for E.
  std::optional<size_t> variable_of(const std::string& name) const {
    for (size_t k = 0; k < form_.exponents.size(); ++k)
      if (name == form_.exponents[k] || name == std::string(1, static_cast<char>('A' + k))) return k;
    return std::nullopt;
  }

  bool may_have_floor(double E, bool floor_is_free) {
    if (!floor_is_free) return false;
    if (E < floor_) {
      flags_.push_back({"no_floor", Severity::warning,
                        "no interval of E: with the optimum at the bound, nothing says how far E may be above it; run "
                        "larger sizes and more tokens, or fix E"});
      return false;
    }
    return std::all_of(trends_.begin(), trends_.end(), [](const Trend& trend) { return trend.falls; });
  }

  void flag_width(const std::string& name, const Interval& interval) {
    if (name == "E" && interval.low < floor_)
      flags_.push_back({"floor_unbounded", Severity::warning,
                        "the interval of E reaches 0: the points do not bound the floor from below; run larger sizes "
                        "and more tokens"});
    const auto found = std::find(form_.exponents.begin(), form_.exponents.end(), name);
    if (found != form_.exponents.end() && (interval.low <= 0 || interval.high - interval.low > 2))
      flag_exponent(name, interval, form_.symbols[static_cast<size_t>(found - form_.exponents.begin())]);
  }

  void flag_exponent(const std::string& name, const Interval& interval, const std::string& symbol) {
    flags_.push_back({"wide_interval_" + symbol, Severity::warning,
                      fmt::format("the interval of {} is [{:.3g}, {:.3g}]: the points hardly determine it; widen the "
                                  "span of {}",
                                  name, interval.low, interval.high, symbol)});
  }

  const Form& form_;
  const LawIntervals& intervals_;
  const std::vector<Trend>& trends_;
  double floor_;
  Flags& flags_;
};

void add_intervals(const Form& form, const Bootstrap& resampled, const LawIntervals& intervals,
                   const std::vector<Trend>& trends, double smallest_loss, const PowerSum& law, bool floor_is_free,
                   Json& out, Flags& flags) {
  static const std::map<Resampling, const char*> names = {{Resampling::residuals, "residuals of cells"},
                                                          {Resampling::run_residuals, "residuals of runs"},
                                                          {Resampling::runs, "whole runs"}};
  out["resampling"] = {{"method", names.at(resampled.method)},
                       {"groups", resampled.groups},
                       {"replicates", resampled.laws.size()},
                       {"failed", resampled.failed},
                       {"level", 0.95}};
  if (resampled.laws.empty()) {
    flags.push_back({"no_intervals", Severity::error,
                     fmt::format("no intervals: {} independent {} leave nothing to resample; add sizes or token counts",
                                 resampled.groups, resampled.groups == 1 ? "group" : "groups")});
    return;
  }
  const auto falls = [](const Trend& trend) { return trend.falls; };
  if (std::none_of(trends.begin(), trends.end(), falls)) return;
  IntervalWriter(form, intervals, trends, smallest_loss, flags).write(law, floor_is_free, out);
}

/// Whether the interval of E covers the truth. What validation tokens say about the source has an error of its own,
/// which no resampling of runs can see: where it is known the interval of E is widened by it, as independent errors
/// are.
void add_truth(const Form& form, const FitReportOptions& options, Json& out, Flags& flags) {
  const double truth = *options.true_bayes_loss;
  Json known = {{"bayes_loss", truth}};
  if (const auto intervals = out.find("intervals"); intervals != out.end() && intervals->contains("E")) {
    const double E = out["E"].get<double>(), error = 1.959963984540054 * options.validation_error.value_or(0);
    const double low = std::max(0.0, E - std::hypot(E - (*intervals)["E"][0].get<double>(), error));
    const double high = E + std::hypot((*intervals)["E"][1].get<double>() - E, error);
    known["interval"] = {low, high};
    known["covered"] = low <= truth && truth <= high;
  }
  if (options.validation_error) known["validation_error"] = *options.validation_error;
  out["truth"] = std::move(known);
  if (form.symbols.size() == 1 && form.symbols.front() != "C")
    flags.push_back({"E_of_one_variable", Severity::note,
                     fmt::format("E of {} holds what the other variable leaves unlearned: expect it above the true "
                                 "{:.6g}; read E of L(N,D)",
                                 form.name, truth)});
}

// More points make the projection slow, and its opinion no better.
constexpr size_t second_opinion_points = 2000;
constexpr size_t profiled_cells = 1000;

/// Variable projection beside the fit. Should it have found a lower place, the fit goes on from there.
void ask_second_opinion(PowerSumObjective& objective, const Form& form, LawFit& fit, Json& out, Flags& flags) {
  if (form.losses.size() > second_opinion_points) return;
  const auto opinion = project_variables(objective, form.x, form.losses);
  if (!std::isfinite(opinion.objective)) return;
  if (opinion.objective < fit.objective - 1e-9) {
    const auto end = minimise(objective, objective.to_coordinates(opinion.law));
    if (end.objective < fit.objective) {
      fit.optimum = end;
      fit.objective = end.objective;
      fit.gradient_norm = end.gradient_norm;
      fit.converged = end.converged;
      fit.law = objective.from_coordinates(end.at);
      fit.E = std::exp(fit.law.log_floor);
    }
  }
  const double apart = opinion.objective - fit.objective;
  out = {{"method", "variable projection"},
         {"objective", opinion.objective},
         {"gradient_norm", opinion.gradient_norm},
         {"starts", opinion.grid},
         {"agrees", std::abs(apart) <= 1e-9}};
  if (std::isfinite(opinion.condition_number)) out["condition_number"] = opinion.condition_number;
  if (apart > 1e-9)
    flags.push_back({"unconfirmed_optimum", Severity::warning,
                     fmt::format("variable projection ended {:.1e} above this optimum: no second opinion confirms it; "
                                 "look for outliers, or add points",
                                 apart)});
}

double largest_compute(const Form& form) {
  double largest = 0;
  for (size_t i = 0; i < form.losses.size(); ++i) largest = std::max(largest, 6 * form.x[0][i] * form.x[1][i]);
  return largest;
}

}  // namespace

Json fit_form(const Form& form, const FitReportOptions& options) {
  const auto& losses = form.losses;
  PowerSumObjective objective(form.x, losses, options.delta, options.fixed_E);
  const bool floor_is_free = objective.floor_is_free();
  const auto starts = form.x.size() == 2 ? parametric_starts(floor_is_free) : power_law_starts(floor_is_free);
  auto fit = fit_law(objective, starts, form.name);
  Json opinion;
  Flags doubts;
  ask_second_opinion(objective, form, fit, opinion, doubts);
  const auto& law = fit.law;
  const double smallest_loss = *std::min_element(losses.begin(), losses.end());

  Json out;
  const auto trends = loss_trends(form.x, losses, form.symbols);
  Flags flags;
  for (size_t k = 0; k < trends.size(); ++k) {
    if (!trends[k].reason.empty()) flags.push_back({"no_fall_" + form.symbols[k], Severity::error, trends[k].reason});
    if (!trends[k].warning.empty())
      flags.push_back({"rises_at_the_end_" + form.symbols[k], Severity::warning, trends[k].warning});
  }
  if (!flags.empty() && std::any_of(trends.begin(), trends.end(), [](const Trend& trend) { return !trend.falls; }))
    out["no_law"] = flags.front().text;
  flags.insert(flags.end(), form.flags.begin(), form.flags.end());
  flags.insert(flags.end(), doubts.begin(), doubts.end());
  for (const auto& quantity : law_quantities(form.exponents)) {
    const double value = quantity.of(law);
    if (std::isfinite(value)) out[quantity.name] = value;
    else
      flags.push_back(
          {"degenerate", Severity::error,
           fmt::format("{} is too large for a number: the law has degenerated; widen the spans", quantity.name)});
  }
  if (!floor_is_free) out["E_fixed"] = true;
  out["objective"] = fit.objective;
  out["gradient_norm"] = fit.gradient_norm;
  out["n_points"] = form.points.size();
  const auto zeros = std::vector<double>(losses.size(), 0.0);
  const auto design = design_cells(form.x.front(), form.x.size() > 1 ? form.x[1] : zeros);
  out["n_cells"] = 1 + *std::max_element(design.begin(), design.end());
  out["starts"] = fit.starts;
  if (const double number = condition_number(objective, fit.optimum.at); std::isfinite(number))
    out["condition_number"] = number;
  if (!opinion.is_null()) out["second_opinion"] = std::move(opinion);
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
  Bootstrap resampled;
  std::optional<LawProfile> profile;
  const auto cells = static_cast<size_t>(objective.num_cells());
  if (options.replicates > 0) {
    // Huge tables get fewer replicates, so that 10^5 rows still end within seconds.
    const int affordable = std::max(100, static_cast<int>(2e7 / static_cast<double>(losses.size() + 9 * cells)));
    resampled =
        bootstrap(objective, fit.optimum, group, design, {std::min(options.replicates, affordable), options.seed});
    if (resampled.method == Resampling::residuals && cells <= profiled_cells)
      profile.emplace(form.x, losses, group, options.fixed_E, law);
    const LawIntervals intervals(resampled, profile ? &*profile : nullptr);
    add_intervals(form, resampled, intervals, trends, smallest_loss, law, floor_is_free, out, flags);
    if (resampled.method == Resampling::residuals) add_lack_of_fit(form, group, options, law, out, flags);
  }
  if (form.x.size() == 2 && !out.contains("no_law")) {
    const LawIntervals intervals(resampled, profile && !resampled.laws.empty() ? &*profile : nullptr);
    if (auto derived = derived_quantities(law, intervals, largest_compute(form)); !derived.is_null())
      out["compute_optimal"] = std::move(derived);
  }
  if (options.true_bayes_loss && floor_is_free) add_truth(form, options, out, flags);
  out["flags"] = to_json(flags);
  return out;
}

}  // namespace attnscale

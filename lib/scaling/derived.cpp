#include "scaling/derived.h"

#include <cmath>
#include <functional>
#include <limits>

namespace attnscale {
namespace {

bool falls_with_both(const PowerSum& law) { return law.terms[0].exponent > 0 && law.terms[1].exponent > 0; }

/// Interval of a number of the law over its replicates; a replicate that has no optimum counts as failed.
std::optional<Interval> interval_of(const Bootstrap& resampled,
                                    const std::function<double(const PowerSum&)>& quantity) {
  std::vector<double> values;
  for (const auto& law : resampled.laws)
    values.push_back(falls_with_both(law) ? quantity(law) : std::numeric_limits<double>::quiet_NaN());
  return replicate_interval(std::move(values), resampled.failed, 0.95);
}

void add_interval(const Bootstrap& resampled, const char* name, const std::function<double(const PowerSum&)>& quantity,
                  Json& intervals) {
  if (const auto interval = interval_of(resampled, quantity)) intervals[name] = {interval->low, interval->high};
}

double optimal_exponent(const PowerSum& law) {
  return law.terms[1].exponent / (law.terms[0].exponent + law.terms[1].exponent);
}

Json at_budget(const PowerSum& law, const Bootstrap& resampled, double C, double largest_C) {
  const auto best = compute_optimum(law, C);
  Json entry = {{"C", C},      {"extrapolation", C / largest_C},          {"N", best.N},
                {"D", best.D}, {"tokens_per_parameter", best.D / best.N}, {"loss", best.loss}};
  Json intervals = Json::object();
  if (!resampled.laws.empty()) {
    add_interval(
        resampled, "N", [C](const PowerSum& each) { return compute_optimum(each, C).N; }, intervals);
    add_interval(
        resampled, "D", [C](const PowerSum& each) { return compute_optimum(each, C).D; }, intervals);
    add_interval(
        resampled, "tokens_per_parameter",
        [C](const PowerSum& each) {
          const auto optimum = compute_optimum(each, C);
          return optimum.D / optimum.N;
        },
        intervals);
    add_interval(
        resampled, "loss", [C](const PowerSum& each) { return compute_optimum(each, C).loss; }, intervals);
  }
  if (!intervals.empty()) entry["intervals"] = std::move(intervals);
  return entry;
}

}  // namespace

ComputeOptimum compute_optimum(const PowerSum& law, double C) {
  const auto &of_N = law.terms[0], &of_D = law.terms[1];
  const double sum = of_N.exponent + of_D.exponent;
  // In logarithms: coefficients of steep laws overflow long before their optimum does.
  const double log_G = (std::log(of_N.exponent / of_D.exponent) + of_N.log_coefficient - of_D.log_coefficient) / sum;
  const double log_ND = std::log(C / 6);
  ComputeOptimum best{
      .C = C, .N = std::exp(log_G + of_D.exponent / sum * log_ND), .D = std::exp(of_N.exponent / sum * log_ND - log_G)};
  best.loss = law.at({best.N, best.D});
  return best;
}

Json derived_quantities(const PowerSum& law, const Bootstrap& resampled, double largest_C) {
  if (law.terms.size() != 2 || !falls_with_both(law)) return nullptr;
  Json derived = {{"convention", "C = 6 N D"}, {"N_exponent", optimal_exponent(law)}};
  if (!resampled.laws.empty())
    if (const auto interval = interval_of(resampled, optimal_exponent))
      derived["N_exponent_interval"] = {interval->low, interval->high};
  derived["budgets"] = Json::array();
  for (const double factor : {1.0, 10.0, 100.0}) {
    auto entry = at_budget(law, resampled, factor * largest_C, largest_C);
    for (const char* key : {"N", "D", "tokens_per_parameter", "loss"})
      if (!std::isfinite(entry[key].get<double>())) return nullptr;
    derived["budgets"].push_back(std::move(entry));
  }
  return derived;
}

}  // namespace attnscale

#include "scaling/derived.h"

#include <cmath>
#include <functional>
#include <limits>

namespace attnscale {
namespace {

bool falls_with_both(const PowerSum& law) { return law.terms[0].exponent > 0 && law.terms[1].exponent > 0; }

/// A law without an optimum has no such quantity.
LawQuantity quantity(const char* name, std::function<double(const PowerSum&)> of, bool positive = true) {
  return {.name = name,
          .of =
              [of = std::move(of)](const PowerSum& law) {
                return falls_with_both(law) ? of(law) : std::numeric_limits<double>::quiet_NaN();
              },
          .positive = positive};
}

double optimal_exponent(const PowerSum& law) {
  return law.terms[1].exponent / (law.terms[0].exponent + law.terms[1].exponent);
}

Json at_budget(const PowerSum& law, const LawIntervals& intervals, double C, double largest_C) {
  Json entry = {{"C", C}, {"extrapolation", C / largest_C}}, found = Json::object();
  const LawQuantity quantities[] = {
      quantity("N", [C](const PowerSum& each) { return compute_optimum(each, C).N; }),
      quantity("D", [C](const PowerSum& each) { return compute_optimum(each, C).D; }),
      quantity("tokens_per_parameter",
               [C](const PowerSum& each) {
                 const auto best = compute_optimum(each, C);
                 return best.D / best.N;
               }),
      quantity("loss", [C](const PowerSum& each) { return compute_optimum(each, C).loss; })};
  for (const auto& each : quantities) {
    const double value = each.of(law);
    entry[each.name] = value;
    if (const auto interval = intervals.of(each, value)) found[each.name] = {interval->low, interval->high};
  }
  if (!found.empty()) entry["intervals"] = std::move(found);
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

Json derived_quantities(const PowerSum& law, const LawIntervals& intervals, double largest_C) {
  if (law.terms.size() != 2 || !falls_with_both(law)) return nullptr;
  Json derived = {{"convention", "C = 6 N D"}, {"N_exponent", optimal_exponent(law)}};
  if (const auto interval = intervals.of(quantity("N_exponent", optimal_exponent, false), optimal_exponent(law)))
    derived["N_exponent_interval"] = {interval->low, interval->high};
  derived["budgets"] = Json::array();
  for (const double factor : {1.0, 10.0, 100.0}) {
    auto entry = at_budget(law, intervals, factor * largest_C, largest_C);
    for (const char* key : {"N", "D", "tokens_per_parameter", "loss"})
      if (!std::isfinite(entry[key].get<double>())) return nullptr;
    derived["budgets"].push_back(std::move(entry));
  }
  return derived;
}

}  // namespace attnscale

#include "scaling/law_intervals.h"

#include <algorithm>
#include <cmath>

namespace attnscale {

std::vector<LawQuantity> law_quantities(const std::vector<std::string>& exponents) {
  static const char* coefficients[] = {"A", "B", "C", "F"};
  std::vector<LawQuantity> list = {{"E", [](const PowerSum& law) { return std::exp(law.log_floor); }}};
  for (size_t k = 0; k < exponents.size(); ++k)
    list.push_back({coefficients[k], [k](const PowerSum& law) { return std::exp(law.terms[k].log_coefficient); }});
  for (size_t k = 0; k < exponents.size(); ++k)
    list.push_back({exponents[k], [k](const PowerSum& law) { return law.terms[k].exponent; }, false});
  return list;
}

std::optional<Interval> LawIntervals::of(const LawQuantity& quantity, double value) const {
  if (!profile_) return by_bootstrap(quantity);
  std::optional<Interval> found;
  if (quantity.positive) {
    // A floor far below anything measured is none.
    const bool is_floor = quantity.name == "E";
    const auto lowest = is_floor ? std::optional<double>(std::log(1e-3 * profile_->lowest_loss())) : std::nullopt;
    found = profile_->interval([&](const PowerSum& law) { return std::log(quantity.of(law)); }, lowest);
    if (found) {
      const bool open = lowest && found->low <= *lowest;
      found = Interval{open ? 0.0 : std::exp(found->low), std::exp(found->high)};
    }
  } else {
    found = profile_->interval(quantity.of);
  }
  if (!found || !std::isfinite(found->low) || !std::isfinite(found->high)) return std::nullopt;
  if (!std::isfinite(value) || (found->low <= value && value <= found->high)) return found;
  // Robust and least squares disagree: neither's interval alone says how far the law is known.
  *found = {std::min(found->low, value), std::max(found->high, value)};
  if (const auto resampled = by_bootstrap(quantity))
    *found = {std::min(found->low, resampled->low), std::max(found->high, resampled->high)};
  return found;
}

std::optional<Interval> LawIntervals::by_bootstrap(const LawQuantity& quantity) const {
  std::vector<double> values;
  for (const auto& law : resampled_.laws) values.push_back(quantity.of(law));
  return replicate_interval(std::move(values), resampled_.failed, 0.95);
}

}  // namespace attnscale

#include <algorithm>
#include <cmath>

#include "scaling/smooth_law.h"

namespace attnscale {
namespace {

enum { broken_E, broken_b, broken_c0, broken_c1, broken_d, broken_f, num_broken };

/// ln(1 + e^u) without overflow.
double soft_plus(double u) { return u > 0 ? u + std::log1p(std::exp(-u)) : std::log1p(std::exp(u)); }

}  // namespace

SmoothLaw broken_power_law(const std::vector<std::vector<double>>& x) {
  std::vector<double> logs;
  double centre = 0;
  for (const double value : x.front()) {
    logs.push_back(std::log(value));
    centre += logs.back() / static_cast<double>(x.front().size());
  }
  std::sort(logs.begin(), logs.end());
  const auto at_share = [&](double share) { return logs.front() + share * (logs.back() - logs.front()); };
  SmoothLaw law;
  law.name = "broken";
  law.formula = "E + b x^-c0 (1 + (x/d)^(1/f))^(-c1 f)";
  law.parameters = {
      {.name = "E", .is_logarithm = true},
      {.name = "b", .is_logarithm = true, .scaled_by = broken_c0, .centre = centre},
      {.name = "c0", .from = {0.02, 0.2, 0.6}},
      {.name = "c1", .from = {-0.2, 0.2, 0.8}},
      {.name = "d", .is_logarithm = true, .from = {at_share(0.2), at_share(0.4), at_share(0.6), at_share(0.8)}},
      {.name = "f", .is_logarithm = true, .from = {std::log(0.1), std::log(0.5)}}};
  law.loss = [centre](const std::vector<double>& point, const LawCoordinates& at, LawCoordinates& gradient) {
    const double log_x = point[0], f = std::exp(at[broken_f]);
    const double u = (log_x - at[broken_d]) / f, bend = soft_plus(u), share = 1 / (1 + std::exp(-u));
    const double term = std::exp(at[broken_b] - at[broken_c0] * (log_x - centre) - at[broken_c1] * f * bend);
    gradient[broken_E] = std::exp(at[broken_E]);
    gradient[broken_b] = term;
    gradient[broken_c0] = -term * (log_x - centre);
    gradient[broken_c1] = -term * f * bend;
    gradient[broken_d] = term * at[broken_c1] * share;
    gradient[broken_f] = -term * at[broken_c1] * f * (bend - share * u);
    return gradient[broken_E] + term;
  };
  static_assert(num_broken <= max_parameters);
  return law;
}

}  // namespace attnscale

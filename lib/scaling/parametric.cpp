#include "scaling/parametric.h"

#include <cmath>

namespace attnscale {

std::vector<PowerSum> parametric_starts(bool floor_is_free) {
  std::vector<double> floors = {-1, -0.5, 0, 0.5, 1};
  if (!floor_is_free) floors = {0};
  std::vector<PowerSum> starts;
  for (const double alpha : {0.0, 0.5, 1.0, 1.5, 2.0})
    for (const double beta : {0.0, 0.5, 1.0, 1.5, 2.0})
      for (const double floor : floors)
        for (int a = 0; a <= 25; a += 5)
          for (int b = 0; b <= 25; b += 5)
            starts.push_back({.log_floor = floor,
                              .terms = {{.log_coefficient = static_cast<double>(a), .exponent = alpha},
                                        {.log_coefficient = static_cast<double>(b), .exponent = beta}}});
  return starts;
}

ParametricFit fit_parametric(const std::vector<double>& N, const std::vector<double>& D, const std::vector<double>& L,
                             const FitOptions& options) {
  PowerSumObjective objective({N, D}, L, options.delta, options.fixed_E);
  ParametricFit fit{fit_law(objective, parametric_starts(objective.floor_is_free()), "L(N, D)")};
  fit.A = std::exp(fit.law.terms[0].log_coefficient);
  fit.B = std::exp(fit.law.terms[1].log_coefficient);
  fit.alpha = fit.law.terms[0].exponent;
  fit.beta = fit.law.terms[1].exponent;
  return fit;
}

}  // namespace attnscale

#include "scaling/parametric.h"

#include <cmath>

#include "core/error.h"

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
  const auto search = minimise_from_all(objective, parametric_starts(objective.floor_is_free()));
  if (search.polished == 0) throw NumericsError("L(N, D): no start has a finite objective; check the table's values");
  const auto law = objective.from_coordinates(search.best.at);
  return {.E = std::exp(law.log_floor),
          .A = std::exp(law.terms[0].log_coefficient),
          .B = std::exp(law.terms[1].log_coefficient),
          .alpha = law.terms[0].exponent,
          .beta = law.terms[1].exponent,
          .objective = search.best.objective,
          .gradient_norm = search.best.gradient_norm,
          .converged = search.best.gradient_norm < 1e-8,
          .starts = search.starts,
          .polished = search.polished,
          .law = law};
}

}  // namespace attnscale

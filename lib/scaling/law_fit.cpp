#include "scaling/law_fit.h"

#include <cmath>

#include "core/error.h"

namespace attnscale {

LawFit fit_law(PowerSumObjective& objective, const std::vector<PowerSum>& starts, const std::string& form) {
  const auto search = minimise_from_all(objective, starts);
  if (search.polished == 0)
    throw NumericsError(form + ": no start has a finite objective; check the table for extreme values");
  const auto law = objective.from_coordinates(search.best.at);
  return {.E = std::exp(law.log_floor),
          .objective = search.best.objective,
          .gradient_norm = search.best.gradient_norm,
          .converged = search.best.gradient_norm < 1e-8,
          .starts = search.starts,
          .polished = search.polished,
          .law = law,
          .optimum = search.best};
}

}  // namespace attnscale

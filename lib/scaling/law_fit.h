#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scaling/minimise.h"

namespace attnscale {

struct FitOptions {
  double delta = 1e-3;                           ///< Huber's, in ln L
  std::optional<double> fixed_E = std::nullopt;  ///< a known irreducible loss, nats per token; 0 for none
};

/// A law at the optimum of its objective, and how that was found.
struct LawFit {
  double E = 0;              ///< irreducible loss, nats per token
  double objective = 0;      ///< sum of Huber losses of the log residuals
  double gradient_norm = 0;  ///< max-norm with respect to (ln E, ln A, alpha, ...)
  bool converged = false;    ///< gradient_norm below 1e-8
  int starts = 0;            ///< how many were walked from
  int polished = 0;          ///< how many of these went on to convergence
  PowerSum law;
  Minimum optimum;  ///< in walking coordinates
};

/// Walks from every start and keeps the lowest optimum.
/// @param form  for messages: `L(N, D)`
/// @throws NumericsError if no start has a finite objective
LawFit fit_law(PowerSumObjective& objective, const std::vector<PowerSum>& starts, const std::string& form);

}  // namespace attnscale

#pragma once

#include <vector>

#include "scaling/law_fit.h"

namespace attnscale {

/// L(N, D) = E + A N^-alpha + B D^-beta, fitted.
struct ParametricFit : LawFit {
  double A = 0, B = 0, alpha = 0, beta = 0;
};

/// The 4,500 starts of Hoffmann et al.: alpha, beta in {0, .5, 1, 1.5, 2}, ln E in {-1, -.5, 0, .5, 1},
/// ln A, ln B in {0, 5, .., 25}. With E fixed, the 900 that differ.
std::vector<PowerSum> parametric_starts(bool floor_is_free);

/// Fits five parameters (four with `fixed_E`) to P points.
///
/// Source: Hoffmann et al. 2022, arXiv:2203.15556, section 3.3 and appendix D.2. Where we differ:
/// a damped Newton walk with analytic derivatives instead of L-BFGS, ten steps from each of the
/// 4,500 starts, then to convergence from the best 24 places that still differ. The objective is
/// the paper's; so is its minimum.
/// @param N, D  parameters and training tokens, positive [P]
/// @param L     losses, nats per token, positive [P]
/// @throws NumericsError if no start has a finite objective
/// Cost: about 45,000 evaluations; half a second for 220 points.
ParametricFit fit_parametric(const std::vector<double>& N, const std::vector<double>& D, const std::vector<double>& L,
                             const FitOptions& options = {});

}  // namespace attnscale

#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "scaling/power_sum.h"
#include "scaling/smooth_law.h"
#include "scaling/table.h"

// P points, K columns, G independent groups.

namespace attnscale {

/// A law as a candidate: its variables and whether it has a floor.
struct CandidateLaw {
  std::string name;                         ///< `E + A N^-alpha + B D^-beta`
  std::vector<std::vector<double>> x;       ///< one column per term, or what `smooth` asks for [K][P]
  bool has_floor = true;                    ///< E is fitted; false: it is 0
  std::vector<std::string> exponents = {};  ///< names, one per term; empty: alpha, beta
  std::optional<SmoothLaw> smooth = {};     ///< nothing: a sum of powers
};

/// A candidate at its optimum.
struct CandidateFit {
  std::vector<std::pair<std::string, double>> values;  ///< E, A, .. as the literature writes them
  double objective = 0, gradient_norm = 0;
  double condition_number = 0;  ///< infinity where a direction has no curvature
  int starts = 0;
  struct Opinion {
    double objective = 0, gradient_norm = 0;
    int starts = 0;
  };
  std::optional<Opinion> second;  ///< variable projection
  LawCoordinates at{};
  std::function<double(const std::vector<double>&)> loss;  ///< predicted, at one value per column
};

/// {"fitted", "objective", "gradient_norm", "condition_number"?, "starts", "second_opinion"?: {"method", "objective",
///  "gradient_norm", "starts", "agrees"}}
Json fit_json(const CandidateFit& fit);

/// Parameters that are free, the scale of the residuals not counted.
int free_parameters(const CandidateLaw& candidate, bool floor_is_fixed);

/// @param x, losses  the points to be fitted: the candidate's columns or a part of them
/// @param fixed_E    a known floor, for candidates that have one
/// @param certify    ask variable projection too; should it end lower, the fit goes on from there
/// @throws NumericsError if no start has a finite objective
CandidateFit fit_candidate(const CandidateLaw& candidate, const std::vector<std::vector<double>>& x,
                           const std::vector<double>& losses, double delta, std::optional<double> fixed_E,
                           bool certify);

/// 95 % intervals by profile t of least squares, {NAME: [low, high]}, as far as the robust fit's own value where that lies
/// outside; a parameter that the points do not bound is left out.
/// @param group  each point's group, every one at a single x [P]
Json candidate_intervals(const CandidateLaw& candidate, const CandidateFit& fit, const std::vector<double>& losses,
                         const std::vector<int>& group, std::optional<double> fixed_E);

/// The candidates that a table bears: with and without a floor in N and D, N, D, C and steps alone; a broken power law
/// where only one of N and D varies and has eight values or more; width, depth and tokens (with and without N) where
/// the table has widths and depths; the data-constrained law where some points repeat tokens.
std::vector<CandidateLaw> candidate_laws(const std::vector<Point>& points);

}  // namespace attnscale

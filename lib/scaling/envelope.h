#pragma once

#include <vector>

#include "core/json.h"
#include "scaling/table.h"

namespace attnscale {

/// One training as a curve over compute.
struct LearningCurve {
  double N = 0;
  std::vector<Waypoint> points;  ///< ascending in C
};

/// The learning curves of a table: those that rows bring along, else the rows of each run that has four or more.
std::vector<LearningCurve> curves_of(const std::vector<Point>& points);

/// A curve with each inner loss replaced by the straight line in ln C through it and its two neighbours; lines stay.
LearningCurve smoothed(LearningCurve curve);

/// Where the envelope of the curves touches one of them.
struct EnvelopePoint {
  double C = 0, N = 0, D = 0, loss = 0;
};

/// At log-spaced budgets (eight per decade) the lowest smoothed curve that reaches it; between evaluations a curve is
/// straight in ln C. Budgets at which the smallest or the largest size wins bracket no minimum and are left out.
///
/// Source: Kaplan et al. 2020, arXiv:2001.08361, section 6; Hoffmann et al. 2022, arXiv:2203.15556, section 3.1
/// (approach 1).
std::vector<EnvelopePoint> envelope_of(const std::vector<LearningCurve>& curves);

/// {"points": [{"C", "N", "D", "loss"}], "N": {"coefficient", "exponent"}, "D": the same, "L": {"E", "A", "alpha",
///  "objective", "gradient_norm", "condition_number"?, "starts", "second_opinion"}, "curves", "flags"}: power laws of
/// the best size and its tokens against compute by log-log least squares, and the loss along the envelope. Null where
/// curves of fewer than three sizes exist. Along the envelope points are not independent: there are no intervals.
Json envelope_report(const std::vector<Point>& points, double delta);

}  // namespace attnscale

#include "scaling/envelope.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include <fmt/format.h>

#include "scaling/candidate.h"
#include "scaling/flags.h"
#include "scaling/identifiability.h"

namespace attnscale {
namespace {

constexpr size_t curve_points_needed = 4;
constexpr int budgets_per_decade = 8;

double compute_at(const Point& point) { return point.C > 0 ? point.C : 6 * point.N * point.D; }

/// Loss and tokens at a budget, straight in ln C; nothing outside the curve.
std::optional<Waypoint> at_budget(const LearningCurve& curve, double C) {
  const auto& points = curve.points;
  if (points.empty() || C < points.front().C || C > points.back().C) return std::nullopt;
  const auto above = std::lower_bound(points.begin(), points.end(), C,
                                      [](const Waypoint& point, double budget) { return point.C < budget; });
  if (above == points.begin()) return *above;
  const auto below = above - 1;
  const double share = std::log(C / below->C) / std::log(above->C / below->C);
  return Waypoint{
      .D = below->D * std::pow(above->D / below->D, share), .C = C, .L = below->L + share * (above->L - below->L)};
}

/// y = coefficient x^exponent by least squares of the logarithms.
Json power_of_compute(const std::vector<EnvelopePoint>& points, double EnvelopePoint::*member) {
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
  const auto count = static_cast<double>(points.size());
  for (const auto& point : points) {
    mean_x += std::log(point.C) / count;
    mean_y += std::log(point.*member) / count;
  }
  for (const auto& point : points) {
    const double x = std::log(point.C) - mean_x;
    xx += x * x;
    xy += x * (std::log(point.*member) - mean_y);
  }
  const double exponent = xy / xx;
  return {{"coefficient", std::exp(mean_y - exponent * mean_x)}, {"exponent", exponent}};
}

}  // namespace

std::vector<LearningCurve> curves_of(const std::vector<Point>& points) {
  std::vector<LearningCurve> curves;
  std::map<std::string, LearningCurve> of_runs;
  for (const auto& point : points) {
    if (!point.done() || !(point.N > 0)) continue;
    if (point.curve.size() >= curve_points_needed) curves.push_back({.N = point.N, .points = point.curve});
    if (point.run.empty() || !(point.D > 0)) continue;
    auto& curve = of_runs[point.run];
    curve.N = point.N;
    curve.points.push_back({.D = point.D, .C = compute_at(point), .L = point.L});
  }
  if (curves.empty())
    for (auto& [name, curve] : of_runs)
      if (curve.points.size() >= curve_points_needed) curves.push_back(std::move(curve));
  for (auto& curve : curves)
    std::sort(curve.points.begin(), curve.points.end(), [](const Waypoint& a, const Waypoint& b) { return a.C < b.C; });
  return curves;
}

LearningCurve smoothed(LearningCurve curve) {
  const auto raw = curve.points;
  for (size_t i = 1; i + 1 < raw.size(); ++i) {
    double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
    for (size_t j = i - 1; j <= i + 1; ++j) {
      mean_x += std::log(raw[j].C) / 3;
      mean_y += raw[j].L / 3;
    }
    for (size_t j = i - 1; j <= i + 1; ++j) {
      const double x = std::log(raw[j].C) - mean_x;
      xx += x * x;
      xy += x * (raw[j].L - mean_y);
    }
    if (xx > 0) curve.points[i].L = mean_y + xy / xx * (std::log(raw[i].C) - mean_x);
  }
  return curve;
}

std::vector<EnvelopePoint> envelope_of(const std::vector<LearningCurve>& curves) {
  if (curves.empty()) return {};
  std::vector<LearningCurve> smooth;
  double first = std::numeric_limits<double>::infinity(), last = 0;
  double smallest = first, largest = 0;
  for (const auto& curve : curves) {
    smooth.push_back(smoothed(curve));
    first = std::min(first, curve.points.front().C);
    last = std::max(last, curve.points.back().C);
    smallest = std::min(smallest, curve.N);
    largest = std::max(largest, curve.N);
  }
  std::vector<EnvelopePoint> envelope;
  const auto begin = static_cast<int>(std::ceil(std::log10(first) * budgets_per_decade));
  for (int k = begin; std::pow(10, static_cast<double>(k) / budgets_per_decade) <= last; ++k) {
    const double C = std::pow(10, static_cast<double>(k) / budgets_per_decade);
    EnvelopePoint best{.C = C, .loss = std::numeric_limits<double>::infinity()};
    for (const auto& curve : smooth)
      if (const auto at = at_budget(curve, C); at && at->L < best.loss)
        best = {.C = C, .N = curve.N, .D = at->D, .loss = at->L};
    if (best.N > smallest && best.N < largest) envelope.push_back(best);
  }
  return envelope;
}

Json envelope_report(const std::vector<Point>& points, double delta) {
  const auto curves = curves_of(points);
  std::vector<double> sizes;
  for (const auto& curve : curves) sizes.push_back(curve.N);
  if (sizes.empty() || distinct_values(sizes) < 3) return nullptr;
  const auto envelope = envelope_of(curves);
  Flags flags = {{"unfinished_schedule", Severity::note,
                  "the envelope reads trainings in their middle, before the learning rate has fallen: with a schedule "
                  "that decays to the end it lies above what runs of that length reach; a constant rate has no such "
                  "bias"}};
  Json report = {{"curves", curves.size()}, {"points", Json::array()}};
  std::set<double> winners;
  for (const auto& point : envelope) {
    report["points"].push_back({{"C", point.C}, {"N", point.N}, {"D", point.D}, {"loss", point.loss}});
    winners.insert(point.N);
  }
  if (winners.size() < 3) {
    flags.push_back({"few_winners", Severity::error,
                     fmt::format("the envelope has no law: {} of {} sizes between the smallest and the largest are "
                                 "ever best; add sizes, or train the small ones longer and the large ones less long",
                                 winners.size(), distinct_values(sizes))});
  } else {
    report["N"] = power_of_compute(envelope, &EnvelopePoint::N);
    report["D"] = power_of_compute(envelope, &EnvelopePoint::D);
    CandidateLaw law{.name = "L(C) along the envelope", .x = {{}}};
    std::vector<double> losses;
    for (const auto& point : envelope) {
      law.x[0].push_back(point.C);
      losses.push_back(point.loss);
    }
    if (distinct_values(law.x[0]) > free_parameters(law, false)) {
      const auto fit = fit_candidate(law, law.x, losses, delta, std::nullopt, true);
      report["L"] = fit_json(fit);
    }
  }
  report["flags"] = to_json(flags);
  return report;
}

}  // namespace attnscale

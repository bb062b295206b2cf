#include "scaling/collapse.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>

#include "scaling/statistics.h"

namespace attnscale {
namespace {

constexpr size_t evaluations_needed = 6;
constexpr int places = 16;  // x = 1/5 .. 1: before that warm-up is what one sees

/// The normalised curve at shares 1/5 .. 1, straight between evaluations; empty where the curve begins later.
std::vector<double> normalised(const Point& point, double E) {
  const auto& curve = point.curve;
  const double end = curve.back().D, last = curve.back().L - E;
  std::vector<double> values;
  for (int i = 0; i < places; ++i) {
    const double D = end * (0.2 + 0.8 * i / (places - 1.0));
    if (D < curve.front().D) return {};
    const auto above = std::lower_bound(curve.begin(), curve.end(), D * (1 - 1e-12),
                                        [](const Waypoint& at, double tokens) { return at.D < tokens; });
    if (above == curve.begin()) {
      values.push_back((above->L - E) / last);
      continue;
    }
    const auto below = above - 1;
    const double share = (D - below->D) / (above->D - below->D);
    values.push_back((below->L + share * (above->L - below->L) - E) / last);
  }
  return values;
}

/// The runs of each size that count.
std::map<double, std::vector<const Point*>> chosen_runs(const std::vector<Point>& points, double E,
                                                        const std::function<double(double)>& best_tokens) {
  std::map<double, std::map<double, std::vector<const Point*>>> by_size;
  for (const auto& point : points)
    if (point.done() && point.N > 0 && point.D > 0 && point.curve.size() >= evaluations_needed &&
        point.curve.back().L > E)
      by_size[point.N][point.D].push_back(&point);
  std::map<double, std::vector<const Point*>> chosen;
  for (const auto& [N, by_tokens] : by_size) {
    double nearest = std::numeric_limits<double>::infinity();
    for (const auto& [D, runs] : by_tokens) {
      const double apart = best_tokens ? std::abs(std::log(D / best_tokens(N))) : -D;
      if (apart >= nearest) continue;
      nearest = apart;
      chosen[N] = runs;
    }
  }
  return chosen;
}

}  // namespace

Json collapse_report(const std::vector<Point>& points, double E, const std::function<double(double N)>& best_tokens) {
  const auto chosen = chosen_runs(points, E, best_tokens);
  std::vector<std::vector<double>> means;         // [sizes][places]
  std::vector<double> seed_squares(places, 0.0);  // of deviations from the size's mean, summed
  std::vector<double> inverse_counts;             // 1 / seeds, per size
  double freedom = 0;
  size_t runs = 0;
  Json curves = Json::array();
  for (const auto& [N, of_size] : chosen) {
    std::vector<std::vector<double>> seeds;
    for (const auto* point : of_size)
      if (auto values = normalised(*point, E); !values.empty()) seeds.push_back(std::move(values));
    if (seeds.empty()) continue;
    const auto count = static_cast<double>(seeds.size());
    auto& mean_curve = means.emplace_back(places, 0.0);
    for (int i = 0; i < places; ++i) {
      for (const auto& seed : seeds) mean_curve[i] += seed[i] / count;
      for (const auto& seed : seeds) seed_squares[i] += std::pow(seed[i] - mean_curve[i], 2);
    }
    freedom += count - 1;
    inverse_counts.push_back(1 / count);
    runs += seeds.size();
    curves.push_back({{"N", N}, {"D", of_size.front()->D}, {"l", mean_curve}});
  }
  if (means.size() < 3) return nullptr;

  Json report = {{"E", E},
                 {"sizes", means.size()},
                 {"runs", runs},
                 {"x", Json::array()},
                 {"mean", Json::array()},
                 {"deviation", Json::array()},
                 {"curves", std::move(curves)}};
  if (freedom > 0) report["seed_noise"] = Json::array();
  double squares = 0, noise_squares = 0;
  for (int i = 0; i + 1 < places; ++i) {
    std::vector<double> at;
    for (const auto& curve : means) at.push_back(curve[i]);
    const double centre = mean(at), deviation = standard_deviation(at) / centre;
    report["x"].push_back(0.2 + 0.8 * i / (places - 1.0));
    report["mean"].push_back(centre);
    report["deviation"].push_back(deviation);
    squares += deviation * deviation;
    if (freedom == 0) continue;
    const double noise = std::sqrt(seed_squares[i] / freedom * mean(inverse_counts)) / centre;
    report["seed_noise"].push_back(noise);
    noise_squares += noise * noise;
  }
  const double rms = std::sqrt(squares / (places - 1));
  if (freedom == 0) {
    report["verdict"] = fmt::format(
        "normalised curves of {} sizes differ by {:.2g} %; one seed per size says nothing about chance: run 3 or more",
        means.size(), 100 * rms);
    return report;
  }
  // Noise-free seeds would make any deviation infinite in units of theirs.
  const double ratio = std::sqrt(squares / std::max(noise_squares, 1e-300));
  const double p = f_upper_tail(ratio * ratio, static_cast<double>(means.size()) - 1, freedom);
  report["ratio"] = std::min(ratio, 1e9);
  report["p"] = p;
  report["collapses"] = p >= 0.05;
  report["verdict"] = fmt::format(
      "normalised curves of {} sizes differ by {:.2g} %, {:.3g} times what seeds make of "
      "it (p = {:.2g}): {}",
      means.size(), 100 * rms, ratio, p,
      p >= 0.05 ? "they collapse onto one, as far as seeds can tell" : "they do NOT collapse onto one");
  return report;
}

}  // namespace attnscale

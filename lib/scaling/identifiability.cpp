#include "scaling/identifiability.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "scaling/statistics.h"

namespace attnscale {
namespace {

// Below these spans an exponent's standard error is larger than the exponents one compares
// (with 30 cells, 3 seeds and noise .004: .056 at a span of 4, .014 at 16).
constexpr double short_span = 8;

std::string more_of(const std::string& symbol) {
  if (symbol == "C") return "add runs so that C spans at least 100x";
  return symbol == "N" ? "add depths or widths so that N spans at least 16x"
                       : "add runs with other numbers of steps so that D spans at least 16x";
}

double correlation(const std::vector<double>& x, const std::vector<double>& y) {
  std::vector<double> a, b;
  for (size_t i = 0; i < x.size(); ++i) {
    a.push_back(std::log(x[i]));
    b.push_back(std::log(y[i]));
  }
  const double mean_a = mean(a), mean_b = mean(b);
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return ab / std::sqrt(aa * bb);
}

void flag_span(const std::vector<double>& x, const std::string& symbol, Flags& flags) {
  if (const double ratio = span(x); ratio < short_span)
    flags.push_back(
        {"short_span_" + symbol, Severity::warning,
         fmt::format("{} spans only {:.3g}x: its exponent is hardly determined; {}", symbol, ratio, more_of(symbol))});
}

std::string too_few(const std::string& symbol, const std::vector<double>& x, int wanted) {
  const int count = distinct_values(x);
  if (count >= wanted) return "";
  const auto have = count == 1 ? fmt::format("all points have the same {} ({:.6g})", symbol, x.front())
                               : fmt::format("{} takes only {} values", symbol, count);
  return fmt::format("{}, at least {} are needed; {}", have, wanted, more_of(symbol));
}

}  // namespace

int distinct_values(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  int count = 0;
  double last = 0;
  for (const double value : values)
    if (count == 0 || value > last * 1.01) {
      ++count;
      last = value;
    }
  return count;
}

double span(const std::vector<double>& values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return *high / *low;
}

std::vector<int> design_cells(const std::vector<double>& N, const std::vector<double>& D) {
  std::map<std::pair<double, double>, int> number;
  std::vector<int> cells;
  for (size_t i = 0; i < N.size(); ++i)
    cells.push_back(number.emplace(std::pair(N[i], D[i]), static_cast<int>(number.size())).first->second);
  return cells;
}

Identifiability identify_parametric(const std::vector<double>& N, const std::vector<double>& D, bool floor_is_free) {
  Identifiability result;
  const int parameters = floor_is_free ? 5 : 4;
  const auto cell_numbers = design_cells(N, D);
  const int cells = 1 + *std::max_element(cell_numbers.begin(), cell_numbers.end());
  for (const auto& problem : {too_few("N", N, 3), too_few("D", D, 3)})
    if (!problem.empty()) result.refusal += (result.refusal.empty() ? "" : "; ") + problem;
  if (result.refusal.empty() && cells <= parameters)
    result.refusal = fmt::format(
        "{} distinct (N, D) cannot determine {} parameters; run at least {} sizes at {} token "
        "counts",
        cells, parameters, 3, 3);
  if (!result.refusal.empty()) return result;
  const double together = correlation(N, D);
  if (std::abs(together) > 0.95)
    result.flags.push_back({"N_and_D_in_step", Severity::error,
                            fmt::format("N and D move together (correlation of their logarithms {:.3f}): which of them "
                                        "lowers the loss is not determined; vary one while the other is held",
                                        together)});
  if (cells < parameters + 3)
    result.flags.push_back(
        {"few_cells", Severity::warning,
         fmt::format("only {} distinct (N, D) for {} parameters: the fit can hardly be contradicted; "
                     "add sizes or token counts",
                     cells, parameters)});
  flag_span(N, "N", result.flags);
  flag_span(D, "D", result.flags);
  return result;
}

Identifiability identify_power_law(const std::vector<double>& x, bool floor_is_free, const std::string& symbol) {
  Identifiability result;
  const int parameters = floor_is_free ? 3 : 2;
  result.refusal = too_few(symbol, x, parameters);
  if (!result.refusal.empty()) return result;
  if (const int count = distinct_values(x); count < parameters + 2)
    result.flags.push_back(
        {"few_values_" + symbol, Severity::warning,
         fmt::format("only {} values of {} for {} parameters: the fit can hardly be contradicted; {}", count, symbol,
                     parameters, more_of(symbol))});
  flag_span(x, symbol, result.flags);
  return result;
}

}  // namespace attnscale

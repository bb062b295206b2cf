#include <algorithm>
#include <cmath>

#include "scaling/smooth_law.h"

namespace attnscale {
namespace {

enum { ln_E, ln_A, at_alpha, ln_B, at_beta, ln_RN, ln_RD, num_constrained };

/// What a value beyond its unique part still counts for, as a logarithm, with its derivatives.
struct Effective {
  double log_value = 0;
  double by_log_unique = 0;  ///< of log_value, the value itself held
  double by_log_reach = 0;
};

Effective effective(double log_value, double log_unique, double reach) {
  if (log_value <= log_unique) return {.log_value = log_value, .by_log_unique = 0, .by_log_reach = 0};
  const double ratio = std::exp(log_value - log_unique), repeats = ratio - 1;
  const double decay = std::exp(-repeats / reach), height = 1 + reach * (1 - decay);
  return {.log_value = log_unique + std::log(height),
          .by_log_unique = 1 - decay * ratio / height,
          .by_log_reach = reach * (1 - decay - repeats / reach * decay) / height};
}

double mean_log(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += std::log(value);
  return sum / static_cast<double>(values.size());
}

}  // namespace

SmoothLaw data_constrained_law(const std::vector<std::vector<double>>& x) {
  const double centre_N = mean_log(x[0]), centre_D = mean_log(x[1]);
  SmoothLaw law;
  law.name = "data_constrained";
  law.formula = "E + A N'^-alpha + B D'^-beta (repeated)";
  const std::vector<double> exponents = {0.15, 0.4, 0.9};
  law.parameters = {{.name = "E", .is_logarithm = true},
                    {.name = "A", .is_logarithm = true, .scaled_by = at_alpha, .centre = centre_N},
                    {.name = "alpha", .from = exponents},
                    {.name = "B", .is_logarithm = true, .scaled_by = at_beta, .centre = centre_D},
                    {.name = "beta", .from = exponents},
                    {.name = "R_N", .is_logarithm = true, .from = {0.5, 2.5}},
                    {.name = "R_D", .is_logarithm = true, .from = {0.5, 2.5}}};
  law.loss = [centre_N, centre_D](const std::vector<double>& point, const LawCoordinates& at,
                                  LawCoordinates& gradient) {
    const double alpha = at[at_alpha], beta = at[at_beta];
    const double log_N = point[0], log_D = point[1];
    const double log_U = std::min(point[2], log_D);
    // ln of the best size for U tokens: alpha A N^-alpha = beta B U^-beta. Exponents below 0 have none: not a number,
    // which the walk turns back from.
    const double log_A = at[ln_A] + alpha * centre_N, log_B = at[ln_B] + beta * centre_D;
    const double log_best = (std::log(alpha / beta) + log_A - log_B + beta * log_U) / alpha;
    const auto size = effective(log_N, log_best, std::exp(at[ln_RN]));
    const auto data = effective(log_D, log_U, std::exp(at[ln_RD]));
    const double of_N = std::exp(at[ln_A] - alpha * (size.log_value - centre_N));
    const double of_D = std::exp(at[ln_B] - beta * (data.log_value - centre_D));
    const double of_best = -alpha * of_N * size.by_log_unique;  // d loss / d log_best
    gradient[ln_E] = std::exp(at[ln_E]);
    gradient[ln_A] = of_N + of_best / alpha;
    gradient[at_alpha] = -(size.log_value - centre_N) * of_N + of_best * (1 / alpha + centre_N - log_best) / alpha;
    gradient[ln_B] = of_D - of_best / alpha;
    gradient[at_beta] = -(data.log_value - centre_D) * of_D + of_best * (log_U - centre_D - 1 / beta) / alpha;
    gradient[ln_RN] = -alpha * of_N * size.by_log_reach;
    gradient[ln_RD] = -beta * of_D * data.by_log_reach;
    return gradient[ln_E] + of_N + of_D;
  };
  static_assert(num_constrained <= max_parameters);
  return law;
}

}  // namespace attnscale

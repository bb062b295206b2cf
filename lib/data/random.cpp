#include "data/random.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

namespace attnscale {

Categorical::Categorical(const std::vector<double>& weights) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  assert(total > 0);
  double sum = 0;
  for (const double weight : weights) {
    assert(weight >= 0);
    sum += weight;
    cumulative_.push_back(sum / total);
    log_probabilities_.push_back(std::log(weight / total));
  }
}

int64_t Categorical::draw(Random& random) const {
  // The total was summed in the same order, so the last cumulative value is exactly 1 and a draw in
  // [0, 1) always finds an outcome; the first value above the draw belongs to a positive weight.
  const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end(), random.uniform());
  return found - cumulative_.begin();
}

double Categorical::entropy() const {
  double sum = 0;
  for (const double ln_p : log_probabilities_)
    if (std::isfinite(ln_p)) sum -= std::exp(ln_p) * ln_p;
  return sum;
}

}  // namespace attnscale

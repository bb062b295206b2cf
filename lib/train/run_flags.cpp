#include "train/run_flags.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace attnscale {

std::vector<std::string> run_flags(const std::vector<Json>& evaluations, int64_t num_symbols) {
  if (evaluations.empty()) return {};
  const auto loss_of = [](const Json& row) { return row.at("loss").get<double>(); };
  const double last = loss_of(evaluations.back());
  const double uniform = std::log(static_cast<double>(num_symbols));
  std::vector<std::string> flags;
  if (last > uniform + uniform_margin)
    flags.push_back(
        fmt::format("final loss {:.4g} is worse than guessing uniformly (ln {} = {:.4g})", last, num_symbols, uniform));
  const auto best = std::min_element(evaluations.begin(), evaluations.end(),
                                     [&](const Json& a, const Json& b) { return loss_of(a) < loss_of(b); });
  if (last > loss_of(*best) + best_margin)
    flags.push_back(fmt::format("final loss {:.4g} is {:.2g} above the best, {:.4g} at step {}", last,
                                last - loss_of(*best), loss_of(*best), best->at("step").get<int64_t>()));
  return flags;
}

}  // namespace attnscale

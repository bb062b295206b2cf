#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "sweep/match_options.h"

namespace attnscale {

/// What matching a run came to.
struct Matched {
  std::string quantity;
  double target = 0, reached = 0;
  /// Paths of the resolved config that matching moved: the one solved for, then those seen to follow it, as a default
  /// `ffn_dim` follows `model_dim`.
  std::vector<std::string> moved = {};
  double residual() const { return reached / target - 1; }
};

/// Solves one run after the other; runs that differ in their seed alone are solved once, and so is a reference's size.
class Matcher {
 public:
  explicit Matcher(const Match& match) : match_(match) {}

  /// Sets `match.by` in `config` to the multiple whose quantity is nearest to the reference's; a run that has the
  /// reference's size already, as the reference itself has, stays as it is. The quantity must grow with the number;
  /// cost: some 20 resolutions of the config.
  /// @return nothing where it cannot be done; the reason is then in `problems`, at paths of the spec (`match...`) or,
  ///         where the run itself is at fault, not reported: resolving it will say so
  std::optional<Matched> solve(Json& config, std::vector<Problem>& problems);

 private:
  struct Solution {
    std::optional<int64_t> number;  ///< nothing: the run stayed as it was
    Matched matched;
  };
  std::optional<double> reference_size(const Json& config, std::vector<Problem>& problems);
  std::optional<Solution> search(Json config, std::vector<Problem>& problems);

  const Match& match_;
  // By JSON without the seed.
  std::map<std::string, double> references_;
  std::map<std::string, std::optional<Solution>> solutions_;
};

}  // namespace attnscale

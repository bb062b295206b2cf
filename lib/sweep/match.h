#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "model/cost.h"

namespace attnscale {

/// Brings every run of a sweep to the size of a reference, so that variants are compared at equal parameters, FLOPs or
/// state: the reference is the same run with some settings replaced, and one whole number of the config is solved for.
struct Match {
  std::string quantity = "parameters";  ///< parameters, non_embedding_parameters, flops, state_bytes
  std::string by = "model.ffn_dim";     ///< config path of the whole number that is solved for
  Json as = Json::object();             ///< config path -> value: what the reference has instead
  int64_t multiple_of = 1;              ///< of the number: head counts divide widths
  double tolerance = 0.01;              ///< largest relative residual; beyond it the run is refused

  /// Reads `match` of a spec; collects every problem and goes on.
  static Match from_json(const Json& json, std::vector<Problem>& problems);
  static Json schema();
};

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

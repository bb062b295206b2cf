#pragma once

#include <string>
#include <vector>

#include "core/json.h"

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

}  // namespace attnscale

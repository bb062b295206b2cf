#pragma once

#include <vector>

#include "train/run_config.h"

namespace attnscale {

/// How far the first steps of training move what a model of one width computes: root mean squares, over positions and
/// numbers, of the change since initialisation, for a fixed batch.
struct Coordinates {
  int64_t model_dim = 0;
  double key = 0, value = 0;  ///< of the variants' inputs, mean over layers
  double attention = 0;       ///< of query . key / sqrt(D), every query with every key, mean over layers
  double stream = 0;          ///< of what the blocks put out, mean over layers
  double logits = 0;          ///< of the next token
};

/// Trains as the config says, schedule and all, for `steps` steps. Dropout is off while measuring, not while training.
/// @throws ConfigError if a layer's variant makes its own keys and values @throws NumericsError if a step is not finite
Coordinates coordinates_of(const RunConfig& config, int64_t steps);

/// Slope of ln y over ln x by least squares: 0 where y does not depend on x. @param x, y  positive, two or more x
double log_slope(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace attnscale

#pragma once

#include "report/figures.h"

namespace attnscale {

/// What `attnscale optimum --json` found, as one picture: the mean loss at each value of the option, with the range
/// over seeds, and each setting's optimum as a diamond with its interval. With an axis that the optimum moves along, a
/// panel for each setting and a curve for each place on the axis; else a curve for each setting.
/// @throws ConfigError for a report without settings
Figure optimum_figure(const Json& report);

}  // namespace attnscale

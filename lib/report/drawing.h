#pragma once

#include <string>

#include "report/figures.h"
#include "report/run_table.h"

namespace attnscale {

/// A picture of any number of runs against any other. The texts are formulas over columns, as those of RunQuery.
struct Drawing {
  std::string y = "loss";  ///< a number, or a list: then a point for each of its items
  std::string x = {};      ///< likewise; left out: the items' places in the list, from 1
  std::string by = {};     ///< a curve for each of its values
  std::string panel = {};  ///< a panel for each of its values
  std::string where = {};  ///< only runs for which this holds
  std::string x_title = {}, y_title = {};  ///< of the axes; left out: the formulas
  bool log_x = false, log_y = false;
};

/// Runs for which `where` holds and that have no y: `2 of 9 runs have no loss and are left out: 1 diverged, 1 failed`;
/// empty if there are none. @throws ConfigError as `drawing_of`
std::string left_out_of(const RunTable& table, const Drawing& drawing);

/// Means over the runs that agree in x, curve and panel, joined by lines; bars go from the lowest to the highest. What
/// `left_out_of` says is its title.
/// @throws ConfigError naming the part, for what `ask` refuses, for values that are no numbers, and where nothing is
/// left
Figure drawing_of(const RunTable& table, const Drawing& drawing);

}  // namespace attnscale

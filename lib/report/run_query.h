#pragma once

#include <set>
#include <string>
#include <vector>

#include "core/json.h"
#include "report/run_table.h"

namespace attnscale {

/// A question to a table of runs. The texts are expressions (core/expression.h) over column names, short ones too.
struct RunQuery {
  std::string where = {};  ///< only runs for which this holds; empty: all
  std::string sort = {};   ///< by this value, the least first; runs without it last; empty: as in the file
  bool descending = false;
  std::string columns = {};  ///< separated by commas; `*`: all; empty: id, what differs between runs, the loss
  size_t limit = 0;          ///< at most so many rows; 0: all
};

/// The answer: titles, and a row of values for each run.
struct RunAnswer {
  std::vector<std::string> titles;
  std::vector<std::vector<Json>> rows;
  size_t matching = 0;  ///< runs for which `where` holds, beyond the limit too
};

/// @throws ConfigError naming the part of the query, what was wrong with it and the nearest name
RunAnswer ask(const RunTable& table, const RunQuery& query);

/// Ids of the runs for which a condition holds. @throws as ask
std::set<std::string> runs_where(const RunTable& table, const std::string& condition);

}  // namespace attnscale

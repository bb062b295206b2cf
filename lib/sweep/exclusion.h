#pragma once

#include <set>
#include <string>
#include <vector>

#include "core/expression.h"
#include "core/json.h"
#include "train/run_config.h"

namespace attnscale {

/// The conditions of a spec's `exclude`, over the resolved config of each run. A name is a path (`model.depth`) or the
/// one option that is called so; an option that a run does not have, such as another variant's, is none.
class Exclusion {
 public:
  /// @param conditions  with the place in the spec of each; must outlive this
  explicit Exclusion(const std::vector<std::pair<std::string, Expression>>& conditions);

  /// Whether one of them holds. What is wrong with one is kept for `report`, and then it does not hold.
  bool holds(const RunConfig& config);

  /// What was wrong: names that no run knew, with the nearest; names that several options have; values without order.
  void report(std::vector<Problem>& problems) const;

 private:
  const std::vector<std::pair<std::string, Expression>>& conditions_;
  std::set<std::string> known_;                           ///< paths and last parts that some run had
  std::set<std::pair<std::string, std::string>> faults_;  ///< place, message
};

}  // namespace attnscale

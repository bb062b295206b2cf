#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/expression.h"
#include "core/json.h"
#include "train/config_resolver.h"

namespace attnscale {

/// The conditions of a spec's `exclude`, over the resolved config of each run. A name is a path (`model.depth`) or the
/// one option that is called so; an option that a run does not have, such as another variant's, is none.
class Exclusion {
 public:
  /// @param conditions  with the place in the spec of each; must outlive this
  explicit Exclusion(const std::vector<std::pair<std::string, Expression>>& conditions);

  /// Whether one of them holds. What is wrong with one is kept for `report`, and then it does not hold.
  /// Cost: that of the conditions, once their names are known and for a shape that came before.
  bool holds(const ResolvedRun& run);

  /// What was wrong: names that no run knew, with the nearest; names that several options have; values without order.
  void report(std::vector<Problem>& problems) const;

 private:
  /// What the conditions ask of a run's model, attention and data.
  struct Shape {
    std::shared_ptr<const RunConfig> config;
    std::map<std::string, Json> options;          ///< by path
    std::vector<std::vector<std::string>> found;  ///< for each of `names_`, the paths that it may mean
  };
  const Shape& shape_of(const ResolvedRun& run);
  void note_known(const ResolvedRun& run);

  const std::vector<std::pair<std::string, Expression>>& conditions_;
  std::vector<std::string> names_;                        ///< of all conditions, each once
  std::vector<const Field*> in_training_;                 ///< for each of `names_`, the option of the training
  std::vector<bool> had_;                                 ///< for each of `names_`, whether some run had it
  std::unordered_map<const RunConfig*, Shape> shapes_;    ///< by the shape that it holds
  std::set<std::string> known_;                           ///< paths and last parts, as long as a name is unknown
  std::set<std::pair<std::string, std::string>> faults_;  ///< place, message
};

}  // namespace attnscale

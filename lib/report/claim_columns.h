#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "core/expression.h"
#include "report/run_table.h"

namespace attnscale {

/// Formulas over a table's rows: first all are added, then `read` fetches what they need at once.
class ClaimColumns {
 public:
  explicit ClaimColumns(const RunTable& table) : table_(table) {}

  size_t add(const Expression& expression) {
    Bound bound{expression, {}};
    for (const auto& name : expression.names()) bound.slots.push_back(slot(table_.resolve(name)));
    bound_.push_back(std::move(bound));
    return bound_.size() - 1;
  }
  size_t slot(const std::string& path) {
    const auto known = std::find(paths_.begin(), paths_.end(), path);
    if (known != paths_.end()) return static_cast<size_t>(known - paths_.begin());
    paths_.push_back(path);
    return paths_.size() - 1;
  }
  void read() { cells_ = table_.cells(paths_); }

  size_t rows() const { return cells_.size(); }
  const Json& cell(size_t row, size_t slot) const { return cells_[row][slot]; }
  Json value(size_t row, size_t formula) const { return bound_[formula].expression.value(values(row, formula)); }
  bool holds(size_t row, size_t formula) const { return bound_[formula].expression.holds(values(row, formula)); }
  std::set<std::string> names(size_t formula) const {
    std::set<std::string> names;
    for (const size_t at : bound_[formula].slots) names.insert(paths_[at]);
    return names;
  }

 private:
  struct Bound {
    Expression expression;
    std::vector<size_t> slots;
  };
  std::vector<const Json*> values(size_t row, size_t formula) const {
    std::vector<const Json*> values;
    for (const size_t at : bound_[formula].slots) values.push_back(&cells_[row][at]);
    return values;
  }

  const RunTable& table_;
  std::vector<std::string> paths_;
  std::vector<Bound> bound_;
  std::vector<std::vector<Json>> cells_;
};

}  // namespace attnscale

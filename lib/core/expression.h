#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// A formula over named values, for filters (`variant == "linear" and depth > 2`) and derived values
/// (`4 * model_dim`). It can calculate and nothing else: no assignment, no loop, no access to files.
///
/// Values are JSON's. From weakest to strongest binding:
///   a if c else b;  or;  and;  not;  == != < <= > >= in, not in;  + -;  * / // %;  - (sign);  **
/// Literals: 4, 1e-3, "text" or 'text', true, false, none, [1, 2]. Names may have dots (`model.depth`).
/// Functions: abs, min, max, floor, ceil, round, round_to (to a multiple), sqrt, exp, log, log2, log10; those of one
/// value take a list too, item by item (min, max: the least and greatest of it). Of lists: first, last, mean, part,
/// slope (core/expression_lists.h). Whole numbers stay whole, except under `/`, and never overflow silently; `//`
/// rounds down; `in` looks into lists and texts. `none` stands for a value that is not there: it equals only itself,
/// orders before nothing (comparisons are false), counts as false, and what is calculated from it is none.
class Expression {
 public:
  /// @throws ConfigError with the column and what was expected; a text longer than 4,000 bytes, and more than 64
  ///         levels, are refused
  static Expression parse(std::string_view text);

  /// Several, separated by commas, as columns of a table are asked for. @throws as `parse`
  static std::vector<Expression> parse_list(std::string_view text);

  const std::string& text() const { return text_; }

  /// Names that occur, each once, in order of appearance.
  const std::vector<std::string>& names() const { return names_; }

  /// @param values  one for each of `names()`; null is none
  /// @throws ConfigError naming the operator and what it was given: a text in a sum, a division of whole numbers by
  ///         zero, a whole number beyond 64 bits, a number that is not finite
  Json value(const std::vector<const Json*>& values) const;

  /// As `value`, of a condition. @throws ConfigError also if it is neither true nor false nor none
  bool holds(const std::vector<const Json*>& values) const;

 private:
  friend class ExpressionParser;
  struct Node {
    enum class Kind { literal, name, call } kind;
    Json literal = {};
    size_t name = 0;                    ///< index in `names_`
    std::string operation = {};         ///< operator or function
    std::vector<size_t> operands = {};  ///< indices in `nodes_`
  };
  Json value_of(size_t node, const std::vector<const Json*>& values) const;
  Json call(const Node& node, const std::vector<const Json*>& values) const;

  std::string text_;
  std::vector<Node> nodes_;
  size_t root_ = 0;
  std::vector<std::string> names_;
};

}  // namespace attnscale

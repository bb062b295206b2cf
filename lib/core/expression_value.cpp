// What an expression comes to.

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "core/expression.h"
#include "core/expression_lists.h"

namespace attnscale {
namespace {

[[noreturn]] void unfit(const std::string& operation, const Json& left, const Json* right = nullptr) {
  throw ConfigError(fmt::format("{} cannot be had of {}{}; expected numbers", operation == "negative" ? "-" : operation,
                                describe_value(left), right ? " and " + describe_value(*right) : ""));
}

Json finite(double number, const std::string& operation, const Json& left, const Json* right = nullptr) {
  if (!std::isfinite(number)) unfit(operation + " with a finite result", left, right);
  return number;
}

/// a^b of whole numbers, b not negative. Beyond 64 bits for |a| > 1 after at most 63 multiplications.
std::optional<int64_t> whole_power(int64_t a, int64_t b) {
  if (a == 0 || a == 1) return b == 0 ? 1 : a;
  if (a == -1) return b % 2 == 0 ? 1 : -1;
  int64_t result = 1;
  for (int64_t i = 0; i < b; ++i)
    if (__builtin_mul_overflow(result, a, &result)) return std::nullopt;
  return result;
}

/// Whole-number arithmetic; nothing where it leaves 64 bits or divides by zero.
std::optional<int64_t> whole(const std::string& operation, int64_t a, int64_t b) {
  int64_t result = 0;
  if (operation == "+") return __builtin_add_overflow(a, b, &result) ? std::nullopt : std::optional(result);
  if (operation == "-") return __builtin_sub_overflow(a, b, &result) ? std::nullopt : std::optional(result);
  if (operation == "*") return __builtin_mul_overflow(a, b, &result) ? std::nullopt : std::optional(result);
  if (operation == "**") return whole_power(a, b);
  if (b == 0 || (b == -1 && a == INT64_MIN)) return std::nullopt;
  const int64_t remainder = a % b, below = remainder != 0 && (remainder < 0) != (b < 0) ? 1 : 0;
  return operation == "//" ? a / b - below : remainder + below * b;  // % has the divisor's sign, as // rounds down
}

Json arithmetic(const std::string& operation, const Json& left, const Json& right) {
  if (left.is_null() || right.is_null()) return nullptr;
  if (!left.is_number() || !right.is_number()) unfit(operation, left, &right);
  const bool stays_whole = operation != "/" && !(operation == "**" && right.get<double>() < 0);
  if (left.is_number_integer() && right.is_number_integer() && stays_whole) {
    const auto result = whole(operation, left.get<int64_t>(), right.get<int64_t>());
    if (!result) unfit(operation + " in whole numbers of 64 bits", left, &right);
    return *result;
  }
  const double a = left.get<double>(), b = right.get<double>();
  const double result = operation == "+"    ? a + b
                        : operation == "-"  ? a - b
                        : operation == "*"  ? a * b
                        : operation == "/"  ? a / b
                        : operation == "//" ? std::floor(a / b)
                        : operation == "%"  ? a - b * std::floor(a / b)
                                            : std::pow(a, b);
  return finite(result, operation, left, &right);
}

/// To the nearest whole number as `round` says, kept as a whole number.
Json to_whole(const std::string& operation, const Json& value, double rounded) {
  if (std::abs(rounded) >= 0x1p63) unfit(operation + " in whole numbers of 64 bits", value);
  return static_cast<int64_t>(rounded);
}

Json function(const std::string& name, const std::vector<Json>& values) {
  if (is_list_function(name)) return list_function(name, values);
  if (values.size() == 1 && values.front().is_array()) {  // of a list: the least of it, or each of its items
    const auto& list = values.front();
    if (name == "min" || name == "max") return list.empty() ? Json() : function(name, list.get<std::vector<Json>>());
    Json each = Json::array();
    for (const auto& item : list) each.push_back(function(name, {item}));
    return each;
  }
  for (const auto& value : values) {
    if (value.is_null()) return nullptr;
    if (!value.is_number()) unfit(name, value);
  }
  const auto& first = values.front();
  const auto less = [](const Json& a, const Json& b) { return a.get<double>() < b.get<double>(); };
  if (name == "min") return *std::min_element(values.begin(), values.end(), less);
  if (name == "max") return *std::max_element(values.begin(), values.end(), less);
  const double x = first.get<double>();
  if (name == "abs") return first.is_number_integer() ? Json(std::abs(first.get<int64_t>())) : Json(std::abs(x));
  if (name == "floor") return to_whole(name, first, std::floor(x));
  if (name == "ceil") return to_whole(name, first, std::ceil(x));
  if (name == "round") return to_whole(name, first, std::round(x));
  if (name == "round_to") {
    const auto& step = values[1];
    if (!step.is_number_integer() || step.get<int64_t>() <= 0) unfit("round_to a whole multiple above 0", first, &step);
    return arithmetic("*", to_whole(name, first, std::round(x / step.get<double>())), step);
  }
  return finite(name == "sqrt"   ? std::sqrt(x)
                : name == "exp"  ? std::exp(x)
                : name == "log"  ? std::log(x)
                : name == "log2" ? std::log2(x)
                                 : std::log10(x),
                name, first);
}

bool contains(const Json& item, const Json& container) {
  if (container.is_null()) return false;
  if (container.is_array()) return std::find(container.begin(), container.end(), item) != container.end();
  if (container.is_string() && item.is_string())
    return container.get_ref<const std::string&>().find(item.get_ref<const std::string&>()) != std::string::npos;
  if (container.is_string() && item.is_null()) return false;
  throw ConfigError(fmt::format("\"in\" looks into a list, or for a text in a text; received {} in {}",
                                describe_value(item), describe_value(container)));
}

bool compare(const std::string& operation, const Json& left, const Json& right) {
  if (operation == "==") return left == right;
  if (operation == "!=") return left != right;
  if (operation == "in") return contains(left, right);
  if (operation == "not in") return !contains(left, right);
  if (left.is_null() || right.is_null()) return false;
  const bool both_texts = left.is_string() && right.is_string();
  if (!both_texts && !(left.is_number() && right.is_number()))
    throw ConfigError(fmt::format("{} orders two numbers or two texts, received {} and {}", operation,
                                  describe_value(left), describe_value(right)));
  if (operation == "<") return left < right;
  if (operation == "<=") return left <= right;
  return operation == ">" ? left > right : left >= right;
}

bool truth_of(const Json& value) {
  if (value.is_null()) return false;
  if (!value.is_boolean())
    throw ConfigError(fmt::format("received {}, expected a condition, such as depth > 2", describe_value(value)));
  return value.get<bool>();
}

}  // namespace

Json Expression::value(const std::vector<const Json*>& values) const { return value_of(root_, values); }

bool Expression::holds(const std::vector<const Json*>& values) const {
  try {
    return truth_of(value(values));
  } catch (const ConfigError& error) {
    throw ConfigError(
        fmt::format("{}: {}", Json(text_).dump(-1, ' ', false, Json::error_handler_t::replace), error.what()));
  }
}

Json Expression::value_of(size_t index, const std::vector<const Json*>& values) const {
  const Node& node = nodes_[index];
  if (node.kind == Node::Kind::literal) return node.literal;
  if (node.kind == Node::Kind::name) return values.at(node.name) ? *values[node.name] : Json();
  return call(node, values);
}

Json Expression::call(const Node& node, const std::vector<const Json*>& values) const {
  const auto operand = [&](size_t i) { return value_of(node.operands[i], values); };
  const auto& operation = node.operation;
  if (operation == "if") return truth_of(operand(0)) ? operand(1) : operand(2);
  if (operation == "and") return truth_of(operand(0)) && truth_of(operand(1));
  if (operation == "or") return truth_of(operand(0)) || truth_of(operand(1));
  if (operation == "not") return !truth_of(operand(0));
  if (operation == "negative") return arithmetic("-", 0, operand(0));
  std::vector<Json> operands;
  for (size_t i = 0; i < node.operands.size(); ++i) operands.push_back(operand(i));
  if (operation == "list") return Json(operands);
  static const std::vector<std::string> comparisons = {"==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  if (std::find(comparisons.begin(), comparisons.end(), operation) != comparisons.end())
    return compare(operation, operands[0], operands[1]);
  if (std::isalpha(static_cast<unsigned char>(operation.front()))) return function(operation, operands);
  return arithmetic(operation, operands[0], operands[1]);
}

}  // namespace attnscale

// Reading an expression: recursive descent, one function for each strength of binding.

#include "core/expression.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "core/nearest.h"

namespace attnscale {
namespace {

constexpr size_t most_bytes = 4'000;
constexpr int most_levels = 64;

/// How many operands a function takes.
const std::map<std::string, std::pair<size_t, size_t>> functions = {
    {"abs", {1, 1}},      {"min", {1, 64}}, {"max", {1, 64}}, {"floor", {1, 1}}, {"ceil", {1, 1}}, {"round", {1, 1}},
    {"round_to", {2, 2}}, {"sqrt", {1, 1}}, {"exp", {1, 1}},  {"log", {1, 1}},   {"log2", {1, 1}}, {"log10", {1, 1}},
    {"first", {1, 1}},    {"last", {1, 1}}, {"mean", {1, 1}}, {"part", {3, 3}},  {"slope", {1, 1}}};

const std::vector<std::string> words = {"and", "or", "not", "in", "if", "else"};

bool is_name_start(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool is_name_part(char c) { return is_name_start(c) || std::isdigit(static_cast<unsigned char>(c)); }

}  // namespace

class ExpressionParser {
 public:
  explicit ExpressionParser(std::string_view text) : text_(text) {
    if (text.size() > most_bytes)
      throw ConfigError(fmt::format("an expression of {} bytes, expected at most {}", text.size(), most_bytes));
    next();
  }

  /// One expression, up to a comma or the end.
  Expression read() {
    result_ = {};
    const size_t begin = token_.at;
    result_.root_ = conditional();
    auto text = std::string(text_.substr(begin, token_.at - begin));
    result_.text_ = text.substr(0, text.find_last_not_of(" \t\n") + 1);
    return std::move(result_);
  }
  bool at_end() const { return token_.kind == Kind::end; }
  bool accept(std::string_view symbol) {
    if (token_.kind != Kind::symbol || token_.text != symbol) return false;
    next();
    return true;
  }
  [[noreturn]] void expected(const std::string& what) const {
    const auto found = at_end() ? std::string("the end") : "\"" + token_.text + "\"";
    auto hint = token_.text == "="                         ? "; for equality write =="
                : token_.text == ";" || token_.text == "{" ? "; only expressions, no statements"
                                                           : "";
    fail(token_.at, fmt::format("received {}, expected {}{}", found, what, hint));
  }

 private:
  using Node = Expression::Node;
  enum class Kind { number, text, name, word, symbol, end };
  struct Token {
    Kind kind = Kind::end;
    std::string text;
    Json value;
    size_t at = 0;
  };

  [[noreturn]] void fail(size_t at, const std::string& message) const {
    throw ConfigError(fmt::format("{}: column {}: {}",
                                  Json(std::string(text_)).dump(-1, ' ', true, Json::error_handler_t::replace), at + 1,
                                  message));
  }

  void next() {
    while (position_ < text_.size() && std::string_view(" \t\n\r").find(text_[position_]) != std::string_view::npos)
      ++position_;
    token_ = {Kind::end, "", {}, position_};
    if (position_ == text_.size()) return;
    const char c = text_[position_];
    if (std::isdigit(static_cast<unsigned char>(c)) ||
        (c == '.' && position_ + 1 < text_.size() && std::isdigit(static_cast<unsigned char>(text_[position_ + 1]))))
      return read_number();
    if (c == '"' || c == '\'') return read_text(c);
    if (is_name_start(c)) return read_name();
    for (const std::string_view symbol : {"==", "!=", "<=", ">=", "//", "**", "&&", "||"})
      if (text_.substr(position_, 2) == symbol) return take(Kind::symbol, 2);
    take(Kind::symbol, 1);
    if (token_.text == "!") token_ = {Kind::word, "not", {}, token_.at};
    if (std::string_view("+-*/%<>()[],=;{").find(c) == std::string_view::npos && c != '!')
      fail(token_.at, fmt::format("{} has no meaning here; expected numbers, quoted texts, names and operators",
                                  Json(token_.text).dump(-1, ' ', true, Json::error_handler_t::replace)));
  }
  void take(Kind kind, size_t length) {
    token_ = {kind, std::string(text_.substr(position_, length)), {}, position_};
    position_ += length;
    if (token_.text == "&&") token_ = {Kind::word, "and", {}, token_.at};
    if (token_.text == "||") token_ = {Kind::word, "or", {}, token_.at};
  }

  void read_number() {
    size_t end = position_;
    while (end < text_.size() &&
           (is_name_part(text_[end]) || text_[end] == '.' ||
            ((text_[end] == '+' || text_[end] == '-') && (text_[end - 1] == 'e' || text_[end - 1] == 'E'))))
      ++end;
    const auto digits = text_.substr(position_, end - position_);
    auto value = Json::parse(digits.front() == '.' ? "0" + std::string(digits) : std::string(digits), nullptr, false);
    const bool too_large = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
    if (!value.is_number() || too_large)
      fail(position_, fmt::format("\"{}\" is not a number, expected one such as 12, 0.5 or 1e-3", digits));
    take(Kind::number, digits.size());
    token_.value = value.is_number_unsigned() ? Json(value.get<int64_t>()) : std::move(value);
  }

  void read_text(char quote) {
    const size_t end = text_.find(quote, position_ + 1);
    if (end == std::string_view::npos)
      fail(position_, fmt::format("the text is not closed; expected {} at its end", quote));
    const auto content = std::string(text_.substr(position_ + 1, end - position_ - 1));
    take(Kind::text, end + 1 - position_);
    token_.value = content;
  }

  void read_name() {
    size_t end = position_;
    while (end < text_.size() &&
           (is_name_part(text_[end]) || (text_[end] == '.' && end + 1 < text_.size() && is_name_start(text_[end + 1]))))
      ++end;
    take(Kind::name, end - position_);
    if (std::find(words.begin(), words.end(), token_.text) != words.end()) token_.kind = Kind::word;
  }

  bool accept_word(std::string_view word) {
    if (token_.kind != Kind::word || token_.text != word) return false;
    next();
    return true;
  }

  size_t add(Node node) {
    result_.nodes_.push_back(std::move(node));
    return result_.nodes_.size() - 1;
  }
  size_t add_call(std::string operation, std::vector<size_t> operands) {
    return add({.kind = Node::Kind::call, .operation = std::move(operation), .operands = std::move(operands)});
  }

  /// Counts levels, so that a hostile text cannot use up the stack.
  struct Level {
    int& count;
    explicit Level(ExpressionParser& parser) : count(parser.levels_) {
      if (++count > most_levels)
        parser.fail(parser.token_.at, fmt::format("more than {} levels deep; no formula needs that", most_levels));
    }
    ~Level() { --count; }
    Level(const Level&) = delete;
  };

  size_t conditional() {
    const size_t value = disjunction();
    if (!accept_word("if")) return value;
    const size_t condition = disjunction();
    if (!accept_word("else")) expected("\"else\" and the other value");
    const Level level(*this);
    return add_call("if", {condition, value, conditional()});
  }
  size_t disjunction() {
    size_t left = conjunction();
    while (accept_word("or")) left = add_call("or", {left, conjunction()});
    return left;
  }
  size_t conjunction() {
    size_t left = negation();
    while (accept_word("and")) left = add_call("and", {left, negation()});
    return left;
  }
  size_t negation() {
    if (!accept_word("not")) return comparison();
    const Level level(*this);
    return add_call("not", {negation()});
  }

  /// A chain as in mathematics: 1 < depth <= 4.
  size_t comparison() {
    size_t left = sum();
    std::optional<size_t> chain;
    for (std::string operation; !(operation = comparison_operator()).empty();) {
      const size_t right = sum();
      const size_t one = add_call(operation, {left, right});
      chain = chain ? add_call("and", {*chain, one}) : one;
      left = right;
    }
    return chain.value_or(left);
  }
  std::string comparison_operator() {
    for (const auto* symbol : {"==", "!=", "<=", ">=", "<", ">"})
      if (accept(symbol)) return symbol;
    if (accept_word("in")) return "in";
    if (token_.kind == Kind::word && token_.text == "not") {
      next();
      if (!accept_word("in")) expected("\"in\" behind \"not\"");
      return "not in";
    }
    return "";
  }

  size_t sum() {
    size_t left = product();
    while (true) {
      if (accept("+")) left = add_call("+", {left, product()});
      else if (accept("-")) left = add_call("-", {left, product()});
      else return left;
    }
  }
  size_t product() {
    size_t left = sign();
    while (true) {
      if (accept("*")) left = add_call("*", {left, sign()});
      else if (accept("/")) left = add_call("/", {left, sign()});
      else if (accept("//")) left = add_call("//", {left, sign()});
      else if (accept("%")) left = add_call("%", {left, sign()});
      else return left;
    }
  }
  size_t sign() {
    const Level level(*this);  // also of a power's exponent
    if (accept("-")) return add_call("negative", {sign()});
    if (accept("+")) return sign();
    const size_t base = atom();
    return accept("**") ? add_call("**", {base, sign()}) : base;
  }

  size_t atom() {
    if (token_.kind == Kind::number || token_.kind == Kind::text) {
      const auto value = token_.value;
      next();
      return add({.kind = Node::Kind::literal, .literal = value});
    }
    if (token_.kind == Kind::name) return name_or_call();
    if (accept("(")) {
      const size_t inside = conditional();
      if (!accept(")")) expected("\")\"");
      return inside;
    }
    if (accept("[")) return add_call("list", arguments("]"));
    expected("a number, a quoted text, a name or \"(\"");
  }

  std::vector<size_t> arguments(std::string_view close) {
    std::vector<size_t> list;
    if (accept(close)) return list;
    do list.push_back(conditional());
    while (accept(","));
    if (!accept(close)) expected(fmt::format("\",\" or \"{}\"", close));
    return list;
  }

  size_t name_or_call() {
    const auto name = token_.text;
    const size_t at = token_.at;
    next();
    static const std::map<std::string, Json> constants = {{"true", true},   {"True", true},    {"false", false},
                                                          {"False", false}, {"none", nullptr}, {"None", nullptr},
                                                          {"null", nullptr}};
    if (const auto constant = constants.find(name); constant != constants.end())
      return add({.kind = Node::Kind::literal, .literal = constant->second});
    if (!accept("(")) {
      auto& names = result_.names_;
      const auto known = std::find(names.begin(), names.end(), name);
      const auto index = static_cast<size_t>(known - names.begin());
      if (known == names.end()) names.push_back(name);
      return add({.kind = Node::Kind::name, .name = index});
    }
    const auto function = functions.find(name);
    if (function == functions.end()) {
      std::vector<std::string> known;
      for (const auto& [one, counts] : functions) known.push_back(one);
      fail(at, fmt::format("unknown function {}{}", name, suggestion(name, known)));
    }
    auto operands = arguments(")");
    const auto [least, most] = function->second;
    if (operands.size() < least || operands.size() > most)
      fail(at, fmt::format("{} of {} values, expected {}", name, operands.size(),
                           least == most ? std::to_string(least) : "at least one"));
    return add_call(name, std::move(operands));
  }

  std::string_view text_;
  size_t position_ = 0;
  Token token_;
  int levels_ = 0;
  Expression result_;
};

Expression Expression::parse(std::string_view text) {
  ExpressionParser parser(text);
  auto expression = parser.read();
  if (!parser.at_end()) parser.expected("an operator or the end");
  return expression;
}

std::vector<Expression> Expression::parse_list(std::string_view text) {
  ExpressionParser parser(text);
  std::vector<Expression> list;
  do list.push_back(parser.read());
  while (parser.accept(","));
  if (!parser.at_end()) parser.expected("\",\" or the end");
  return list;
}

}  // namespace attnscale

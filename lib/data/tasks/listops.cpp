// ListOps: nested operations on lists of digits. The answer needs the tree, not only the tokens.

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "data/registry.h"
#include "data/task_source.h"

namespace attnscale {
namespace {

/// Blanks, an expression such as `[MAX 2 9 [MIN 4 7 ] 0 ]`, an equals sign, and the digit that it gives. Operations:
/// maximum, minimum, median (of an even number, the mean of the middle two, rounded down), and sum modulo 10.
///
/// An expression is drawn from the root: an inner place becomes an operation with probability 1/4 while depth and room
/// allow, otherwise a digit; an operation has 2 to `max_arguments` arguments.
///
/// Source: Nangia and Bowman 2018, arXiv:1804.06028, section 2. There expressions are drawn without a length limit and
/// filtered; here the room that is left limits them while they are drawn.
class ListOps final : public TaskSource {
 public:
  struct Options {
    int64_t max_depth = 10;
    int64_t max_arguments = 5;

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::max_depth, "max_depth", "operations inside each other, at most").between(1, 64),
          field(&Options::max_arguments, "max_arguments", "arguments of an operation, at most").between(2, 64),
      };
      return list;
    }
  };

  explicit ListOps(const Options& options) : options_(options) {}

  static std::vector<std::string> heads() { return heads_of_one_answer(); }

  static std::vector<std::string> refusals(const Options&, int64_t context) {
    if (context >= shortest + 1) return {};
    return {fmt::format("the shortest expression and the equals sign need a context of {}, received {}", shortest + 1,
                        context)};
  }

  int64_t vocab_size() const override { return blank + 1; }

  /// Answers are not equally likely (MAX favours 9, MIN 0), so no chance accuracy is stated.
  std::optional<Truth> truth(int64_t context) const override {
    auto truth = TaskSource::truth(context);
    truth->derivation = "the expression determines its value";
    truth->chance_accuracy.reset();
    return truth;
  }

  std::string decode(const std::vector<int64_t>& tokens) const override {
    static const std::array<std::string, 7> names = {"[MAX", "[MIN", "[MED", "[SM", "]", "=", "_"};
    std::string text;
    for (const int64_t token : tokens) {
      if (!text.empty()) text += ' ';
      text += token < first_operation ? std::to_string(token) : names.at(token - first_operation);
    }
    return text;
  }

 protected:
  int64_t num_answers() const override { return 10; }

  void draw_window(Random& random, TaskWindow& window) const override {
    const int64_t room = window.length() - 2;
    std::vector<int64_t> tokens;
    const int64_t value = draw_operation(random, room, 1, tokens);
    const int64_t first = room - std::ssize(tokens);
    for (int64_t at = 0; at < room; ++at) window[at] = at < first ? blank : tokens[at - first];
    window[room] = equals;
    window.ask(room + 1, value, room + 1);
  }

 private:
  static constexpr int64_t first_operation = 10, close = 14, equals = 15, blank = 16;
  static constexpr int64_t shortest = 4;  // an operation, two digits, a bracket

  /// Appends an expression of at most `room` >= 1 tokens. @return its value
  int64_t draw_expression(Random& random, int64_t room, int64_t depth, std::vector<int64_t>& tokens) const {
    if (room >= shortest && depth <= options_.max_depth && random.below(4) == 0)
      return draw_operation(random, room, depth, tokens);
    const auto digit = static_cast<int64_t>(random.below(10));
    tokens.push_back(digit);
    return digit;
  }

  int64_t draw_operation(Random& random, int64_t room, int64_t depth, std::vector<int64_t>& tokens) const {
    const auto operation = static_cast<int64_t>(random.below(4));
    const int64_t most = std::min(options_.max_arguments, room - 2);
    int64_t left = 2 + static_cast<int64_t>(random.below(most - 1));
    const auto begin = std::ssize(tokens);
    tokens.push_back(first_operation + operation);
    std::vector<int64_t> values;
    for (; left > 0; --left) {
      const int64_t used = std::ssize(tokens) - begin + 1;  // the bracket included
      values.push_back(draw_expression(random, room - used - (left - 1), depth + 1, tokens));
    }
    tokens.push_back(close);
    return result_of(operation, values);
  }

  static int64_t result_of(int64_t operation, std::vector<int64_t> values) {
    std::sort(values.begin(), values.end());
    const auto count = std::ssize(values);
    if (operation == 0) return values.back();
    if (operation == 1) return values.front();
    if (operation == 2) return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
    int64_t sum = 0;
    for (const int64_t value : values) sum += value;
    return sum % 10;
  }

  Options options_;
};

const RegisterSource<ListOps> register_listops{{.name = "listops",
                                                .summary = "nested maximum, minimum, median and sum of digits",
                                                .source = "Nangia and Bowman 2018, arXiv:1804.06028, section 2"}};

}  // namespace
}  // namespace attnscale

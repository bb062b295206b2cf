// Every generated task: each answer is found again by a solver that reads the tokens alone, so that what is asked is
// really determined by what comes before it.

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "data/registry.h"
#include "data/task_source.h"

using namespace attnscale;

namespace {

const std::vector<std::string> task_names = {
    "associative_recall", "in_context_recall", "selective_copy", "copy",       "induction", "memorization", "parity",
    "majority",           "listops",           "needle",         "compression"};

std::shared_ptr<const Source> made(const std::string& name, const Json& options = Json::object()) {
  const auto& info = source_named(name);
  return info.make(info.resolve(options));
}

struct Row {
  std::vector<int64_t> tokens, distances;  // [T + 1], [T]
  std::vector<uint8_t> asked;              // [T]
};

std::vector<Row> drawn(const Source& source, int64_t context, int64_t rows = 200) {
  const auto batch = source.batch(Split::train, 1, 0, rows, context);
  check_batch(batch, source.vocab_size());
  std::vector<Row> result;
  for (int64_t r = 0; r < rows; ++r) {
    const auto part = [&](const auto& all, int64_t width) {
      return std::vector(all.begin() + r * width, all.begin() + (r + 1) * width);
    };
    Row row{part(batch.tokens, context + 1), {}, part(batch.asked, context)};
    row.distances = batch.distances.empty() ? std::vector<int64_t>(context) : part(batch.distances, context);
    result.push_back(row);
  }
  return result;
}

int64_t count_asked(const Row& row) { return std::count(row.asked.begin(), row.asked.end(), 1); }

}  // namespace

TEST_CASE("tasks: an answer that is told somewhere equals the token there") {
  for (const auto& name :
       {"associative_recall", "in_context_recall", "selective_copy", "copy", "induction", "needle"}) {
    INFO(name);
    for (const int64_t context : {64, 65}) {
      int64_t asked = 0;
      for (const auto& row : drawn(*made(name), context)) {
        for (int64_t t = 0; t < context; ++t) {
          CHECK((row.asked[t] == 1) == (row.distances[t] > 0));
          if (!row.asked[t]) continue;
          ++asked;
          REQUIRE(row.distances[t] <= t + 1);
          CHECK(row.tokens[t + 1] == row.tokens[t + 1 - row.distances[t]]);
        }
      }
      CHECK(asked >= 200);
    }
  }
}

TEST_CASE("associative recall: each shown key is asked for once, and its value follows") {
  for (const auto& row : drawn(*made("associative_recall", {{"num_pairs", 16}}), 100)) {
    std::map<int64_t, int64_t> value_of;
    for (int64_t i = 0; i < 32; i += 2) value_of[row.tokens[i]] = row.tokens[i + 1];
    CHECK(value_of.size() == 16);
    CHECK(count_asked(row) == 16);
    std::set<int64_t> asked;
    for (int64_t t = 0; t < 100; ++t) {
      if (!row.asked[t]) continue;
      CHECK(value_of.at(row.tokens[t]) == row.tokens[t + 1]);
      asked.insert(row.tokens[t]);
    }
    CHECK(asked.size() == 16);
  }
}

TEST_CASE("associative recall: most questions come soon, by the power law") {
  // One question, places 1 .. 31 with weights 1/i: the mean place is 31 / H(31) = 7.69; 4000 draws, deviation 8.
  double sum = 0;
  int64_t count = 0;
  for (const auto& row : drawn(*made("associative_recall", {{"num_pairs", 1}, {"power", 0.0}}), 63, 4000))
    for (int64_t t = 0; t < 63; ++t)
      if (row.asked[t]) sum += static_cast<double>((t - 2) / 2 + 1), ++count;
  double harmonic = 0;
  for (int i = 1; i <= 31; ++i) harmonic += 1.0 / i;
  CHECK(sum / static_cast<double>(count) == Catch::Approx(31 / harmonic).margin(4 * 8.5 / std::sqrt(4000.0)));
}

TEST_CASE("in-context recall: fuzzy keys are told apart by their first token, and noise belongs to no pair") {
  const Json options = {{"longest_key", 3}, {"longest_value", 2}, {"noise", 0.2}};
  for (const auto& row : drawn(*made("in_context_recall", options), 128, 50)) {
    // Keys are tokens 0-7, values 8-15, noise 16-31. Parse: key run, value run.
    std::map<std::vector<int64_t>, std::vector<int64_t>> value_of;
    int64_t at = 0;
    const int64_t length = 129;
    while (at < length) {
      if (row.tokens[at] >= 16) {
        ++at;
        continue;
      }
      std::vector<int64_t> key, value;
      while (at < length && row.tokens[at] < 8) key.push_back(row.tokens[at++]);
      const auto known = value_of.find(key);
      while (at < length && row.tokens[at] >= 8 && row.tokens[at] < 16) {
        CHECK((row.asked[at - 1] == 1) == (known != value_of.end()));
        value.push_back(row.tokens[at++]);
      }
      if (at == length) break;
      if (known != value_of.end()) CHECK(known->second == value);
      value_of[key] = value;
    }
    std::set<int64_t> firsts;
    for (const auto& [key, value] : value_of) firsts.insert(key.front());
    CHECK(firsts.size() == value_of.size());
  }
}

TEST_CASE("selective copy and copy: the symbols come again, in order") {
  for (const auto& row : drawn(*made("selective_copy", {{"num_symbols", 5}}), 40)) {
    std::vector<int64_t> symbols;
    for (int64_t at = 0; at < 35; ++at)
      if (row.tokens[at] >= 2) symbols.push_back(row.tokens[at]);
    CHECK(row.tokens[35] == 1);
    CHECK(symbols == std::vector<int64_t>(row.tokens.begin() + 36, row.tokens.end()));
    CHECK(count_asked(row) == 5);
  }
  for (const auto& row : drawn(*made("copy"), 21))
    CHECK(std::equal(row.tokens.begin() + 1, row.tokens.begin() + 11, row.tokens.begin() + 12));
  for (const auto& row : drawn(*made("copy"), 20))
    CHECK(std::equal(row.tokens.begin(), row.tokens.begin() + 10, row.tokens.begin() + 11));
}

TEST_CASE("induction: the trigger stands twice, and the same symbol follows") {
  for (const auto& row : drawn(*made("induction"), 30)) {
    CHECK(std::count(row.tokens.begin(), row.tokens.end(), 0) == 2);
    const auto first = std::find(row.tokens.begin(), row.tokens.end(), 0);
    CHECK(*(first + 1) == row.tokens.back());
    CHECK(count_asked(row) == 1);
  }
}

TEST_CASE("parity and majority: counting gives the answer") {
  for (const bool vary : {false, true})
    for (const auto& row : drawn(*made("parity", {{"vary_length", vary}}), 20)) {
      const auto ones = std::count(row.tokens.begin(), row.tokens.end() - 1, 1);
      CHECK(row.tokens.back() == ones % 2);
      CHECK(row.tokens[19] == 2);
    }
  for (const auto& row : drawn(*made("majority", {{"alphabet", 3}}), 20)) {
    std::map<int64_t, int64_t> counts;
    for (int64_t at = 0; at < 19; ++at) ++counts[row.tokens[at]];
    for (const auto& [symbol, count] : counts)
      if (symbol != row.tokens.back()) CHECK(count < counts[row.tokens.back()]);
  }
}

TEST_CASE("listops: a parser of its text gives the same value") {
  const auto source = made("listops");
  // A stack machine on the printed text, as the paper's dataset is read.
  const auto value_of = [](const std::string& text) {
    std::vector<std::pair<std::string, std::vector<int64_t>>> stack = {{"", {}}};
    for (size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find(' ', at), text.size());
      const auto word = text.substr(at, end - at);
      at = end + 1;
      if (word == "_") continue;
      if (word == "=") break;
      if (word.front() == '[') stack.push_back({word, {}});
      else if (word != "]") stack.back().second.push_back(std::stoll(word));
      else {
        auto [name, values] = stack.back();
        stack.pop_back();
        std::sort(values.begin(), values.end());
        const size_t n = values.size();
        const int64_t median = (values[(n - 1) / 2] + values[n / 2]) / 2;
        const int64_t sum = std::accumulate(values.begin(), values.end(), int64_t{0}) % 10;
        stack.back().second.push_back(name == "[MAX"   ? values.back()
                                      : name == "[MIN" ? values.front()
                                      : name == "[MED" ? median
                                                       : sum);
      }
    }
    REQUIRE(stack.size() == 1);
    REQUIRE(stack.back().second.size() == 1);
    return stack.back().second.front();
  };
  size_t deepest = 0;
  for (const auto& row : drawn(*source, 60)) {
    const auto text = source->decode(row.tokens);
    INFO(text);
    CHECK(value_of(text) == row.tokens.back());
    size_t depth = 0, most = 0;
    for (const char c : text) depth += c == '[', depth -= c == ']', most = std::max(most, depth);
    deepest = std::max(deepest, most);
  }
  CHECK(deepest >= 3);
}

TEST_CASE("needle: the question's key stands in one needle, whose value is the answer") {
  for (const auto& row : drawn(*made("needle"), 100)) {
    CHECK(row.tokens[97] == 1);
    int64_t found = 0;
    for (int64_t at = 0; at < 97; ++at)
      if (row.tokens[at] == 0 && row.tokens[at + 1] == row.tokens[98]) {
        ++found;
        CHECK(row.tokens[at + 2] == row.tokens[99]);
        CHECK(row.tokens[at + 3] == row.tokens[100]);
      }
    CHECK(found == 1);
    CHECK(std::count(row.tokens.begin(), row.tokens.end(), 0) == 4);
    CHECK(count_asked(row) == 2);
  }
}

TEST_CASE("memorization: one table for all windows and seeds") {
  const auto source = made("memorization");
  std::map<int64_t, int64_t> value_of;
  for (const uint64_t seed : {1, 2}) {
    const auto batch = source->batch(Split::train, seed, 3, 50, 64);
    for (int64_t r = 0; r < 50; ++r)
      for (int64_t t = 0; t < 64; ++t) {
        if (!batch.asked[r * 64 + t]) continue;
        const auto* tokens = batch.tokens.data() + r * 65;
        const auto [known, fresh] = value_of.emplace(tokens[t], tokens[t + 1]);
        CHECK(known->second == tokens[t + 1]);
      }
  }
  CHECK(value_of.size() == 256);
}

TEST_CASE("compression: every symbol is asked for again, its distance being the one to the token that compresses") {
  std::map<int64_t, int64_t> counts;
  for (const auto& row : drawn(*made("compression", {{"alphabet", 3}}), 9)) {
    for (int64_t t = 0; t < 8; ++t) {
      CHECK(row.asked[t] == 1);
      CHECK(row.distances[t] == 8 - t);
      ++counts[row.tokens[t]];
    }
    CHECK(row.tokens[8] == 0);
    CHECK(row.asked[8] == 0);
  }
  REQUIRE(counts.size() == 3);
  // 1600 draws of probability 1/3: deviation 18.9; five of them.
  for (const auto& [symbol, count] : counts) CHECK(std::abs(count - 1600 / 3) < 95);
  const auto truth = made("compression", {{"alphabet", 4}})->truth(33);
  CHECK(truth->chance_accuracy == 0.25);
  CHECK(truth->derivation.find("64 bits") != std::string::npos);  // 32 symbols of 2
}

TEST_CASE("tasks: the same arguments give the same windows, the shortest context works, and one less is refused") {
  const std::map<std::string, int64_t> shortest = {{"associative_recall", 31},
                                                   {"in_context_recall", 3},
                                                   {"selective_copy", 32},
                                                   {"copy", 2},
                                                   {"induction", 3},
                                                   {"memorization", 1},
                                                   {"parity", 2},
                                                   {"majority", 2},
                                                   {"listops", 5},
                                                   {"needle", 19},
                                                   {"compression", 2}};
  for (const auto& name : task_names) {
    INFO(name);
    const auto& info = source_named(name);
    const auto options = info.resolve(Json::object());
    const int64_t context = shortest.at(name);
    CHECK(info.refusals(options, context).empty());
    if (context > 1) CHECK(info.refusals(options, context - 1).size() == 1);
    const auto source = info.make(options);
    const auto one = source->batch(Split::validation, 0, 2, 5, context),
               again = source->batch(Split::validation, 9, 2, 5, context);
    CHECK(one.tokens == again.tokens);
    CHECK(one.asked == again.asked);
    CHECK(one.num_asked() >= 1);
    CHECK(source->batch(Split::train, 1, 2, 50, context).tokens !=
          source->batch(Split::train, 2, 2, 50, context).tokens);
    const auto truth = source->truth(context);
    REQUIRE(truth);
    CHECK(truth->bayes_accuracy == 1.0);
  }
}

TEST_CASE("draw_distinct: all orders are equally likely") {
  std::map<std::vector<int64_t>, int> counts;
  Random random(5);
  for (int i = 0; i < 6000; ++i) ++counts[draw_distinct(random, 2, 3)];
  CHECK(counts.size() == 6);
  // 1000 expected, deviation 29: five deviations.
  for (const auto& [order, count] : counts) CHECK(std::abs(count - 1000) < 145);
}

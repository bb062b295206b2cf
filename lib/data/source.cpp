#include "data/source.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace attnscale {

int64_t Batch::num_asked() const {
  if (asked.empty()) return rows * context;
  return std::count(asked.begin(), asked.end(), uint8_t{1});
}

std::vector<double> Source::bayes_log_probabilities(const Batch&) const { return {}; }

std::optional<Truth> Source::truth(int64_t) const { return std::nullopt; }

std::optional<int64_t> Source::num_validation_windows(int64_t) const { return std::nullopt; }

Json Source::fingerprint() const { return Json::object(); }

std::vector<int64_t> Source::encode(const std::string& text) const {
  std::vector<int64_t> tokens;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    int64_t token = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), token);
    if (error != std::errc() || end != word.data() + word.size() || token < 0 || token >= vocab_size())
      throw DataError(fmt::format("\"{}\" is not a token of this source; expected whole numbers from 0 to {}", word,
                                  vocab_size() - 1));
    tokens.push_back(token);
  }
  return tokens;
}

std::string Source::decode(const std::vector<int64_t>& tokens) const {
  return fmt::format("{}", fmt::join(tokens, " "));
}

void check_batch_request(int64_t index, int64_t rows, int64_t context) {
  if (index < 0) throw DataError(fmt::format("batch index {}: expected at least 0", index));
  if (rows < 1) throw DataError(fmt::format("batch of {} rows: expected at least 1", rows));
  if (context < 1) throw DataError(fmt::format("batch with context {}: expected at least 1", context));
}

void check_batch(const Batch& batch, int64_t vocab_size) {
  check_batch_request(0, batch.rows, batch.context);
  const auto expected = static_cast<size_t>(batch.rows * (batch.context + 1));
  if (batch.tokens.size() != expected)
    throw DataError(fmt::format("batch of {} rows and context {} holds {} tokens, expected {} = rows * (context + 1)",
                                batch.rows, batch.context, batch.tokens.size(), expected));
  for (size_t i = 0; i < expected; ++i)
    if (batch.tokens[i] < 0 || batch.tokens[i] >= vocab_size)
      throw DataError(fmt::format("batch row {}, position {}: token {} is outside the vocabulary 0 to {}",
                                  i / static_cast<size_t>(batch.context + 1),
                                  i % static_cast<size_t>(batch.context + 1), batch.tokens[i], vocab_size - 1));
}

}  // namespace attnscale

// A text file as a source: characters or bytes of real text, whose entropy nobody knows.

#include <algorithm>
#include <cmath>
#include <variant>

#include <fmt/format.h>

#include "core/hash.h"
#include "data/mapped_file.h"
#include "data/random.h"
#include "data/registry.h"
#include "data/utf8.h"

namespace attnscale {
namespace {

/// Tokens of a mapped text. Where every token is one byte (bytes, or ASCII characters) they are
/// looked up in the mapping itself; other texts get one small integer per character.
class EncodedText {
 public:
  /// Bytes as tokens 0 to 255.
  explicit EncodedText(std::string_view bytes) : bytes_(bytes), size_(static_cast<int64_t>(bytes.size())) {
    for (int byte = 0; byte < 256; ++byte) token_of_byte_.push_back(static_cast<uint8_t>(byte));
  }

  /// Characters (UTF-8 code points) as tokens in the order of `vocabulary`.
  EncodedText(std::string_view bytes, const std::u32string& vocabulary, int64_t num_characters)
      : bytes_(bytes), size_(num_characters) {
    if (vocabulary.back() < 0x80) {
      token_of_byte_.resize(256);
      for (size_t token = 0; token < vocabulary.size(); ++token)
        token_of_byte_[vocabulary[token]] = static_cast<uint8_t>(token);
    } else if (vocabulary.size() <= 0x100) {
      encode<uint8_t>(vocabulary);
    } else if (vocabulary.size() <= 0x10000) {
      encode<uint16_t>(vocabulary);
    } else {
      encode<uint32_t>(vocabulary);
    }
  }

  int64_t size() const { return size_; }

  /// Copies `count` tokens from `begin`.
  void copy(int64_t begin, int64_t count, int64_t* to) const {
    if (!token_of_byte_.empty()) {
      for (int64_t i = 0; i < count; ++i) to[i] = token_of_byte_[static_cast<unsigned char>(bytes_[begin + i])];
      return;
    }
    std::visit([&](const auto& tokens) { std::copy_n(tokens.begin() + begin, count, to); }, tokens_);
  }

 private:
  template <class Token>
  void encode(const std::u32string& vocabulary) {
    std::vector<Token> token_of(vocabulary.back() + 1);
    for (size_t token = 0; token < vocabulary.size(); ++token) token_of[vocabulary[token]] = static_cast<Token>(token);
    std::vector<Token> tokens;
    tokens.reserve(size_);
    for (size_t offset = 0; offset < bytes_.size();) tokens.push_back(token_of[*next_code_point(bytes_, offset)]);
    tokens_ = std::move(tokens);
  }

  std::string_view bytes_;
  int64_t size_;
  std::vector<uint8_t> token_of_byte_;
  std::variant<std::vector<uint8_t>, std::vector<uint16_t>, std::vector<uint32_t>> tokens_;
};

/// The first part of a file trains, the rest validates.
///
/// Training batches are windows at uniformly random places. Validation windows are consecutive and
/// their targets do not overlap: window w holds tokens w T to w T + T of the part (its last token is
/// the next one's first), batch `index` has windows index * rows onwards, and after the last
/// complete window follows the first again.
class Text final : public Source {
 public:
  struct Options {
    std::string path;
    std::string tokens = "characters";
    double train_fraction = 0.9;
    std::optional<int64_t> unique_tokens = {};

    static const Fields& fields() {
      static const Fields list = {
          field(&Options::path, "path", "the text file; required"),
          field(&Options::tokens, "tokens", "characters: UTF-8 code points of the file, sorted; bytes: 256 tokens")
              .one_of({"characters", "bytes"}),
          field(&Options::train_fraction, "train_fraction", "part of the tokens, from the start, that trains")
              .between(0.001, 0.999),
          field(&Options::unique_tokens, "unique_tokens",
                "only so many tokens of the part that trains, from its start, which a longer training then repeats; left "
                "out: all of them")
              .at_least(2),
      };
      return list;
    }
  };

  static std::vector<std::string> refusals(const Options& options, int64_t) {
    if (!options.path.empty()) return {};
    return {"path is empty; name a text file, for example --set data.path=corpus.txt"};
  }

  explicit Text(const Options& options)
      : options_(options), file_(required_path(options)), vocabulary_(vocabulary()), text_(encoded()) {
    num_train_ = static_cast<int64_t>(std::floor(static_cast<double>(text_.size()) * options.train_fraction));
    num_unique_ = std::min(num_train_, options.unique_tokens.value_or(num_train_));
  }

  int64_t vocab_size() const override { return bytes_only() ? 256 : static_cast<int64_t>(vocabulary_.size()); }

  Batch batch(Split split, uint64_t seed, int64_t index, int64_t rows, int64_t context) const override {
    check_batch_request(index, rows, context);
    check_length(context);
    Batch batch{.rows = rows, .context = context, .tokens = std::vector<int64_t>(rows * (context + 1))};
    Random random(stream_seed(seed, "data/train", static_cast<uint64_t>(index)));
    const int64_t num_windows = *num_validation_windows(context);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t begin = split == Split::train
                                ? static_cast<int64_t>(random.below(num_unique_ - context))
                                : num_train_ + validation_window(index, rows, row, num_windows) * context;
      text_.copy(begin, context + 1, batch.tokens.data() + row * (context + 1));
    }
    return batch;
  }

  std::optional<int64_t> num_validation_windows(int64_t context) const override {
    return (text_.size() - num_train_ - 1) / context;
  }

  Json fingerprint() const override { return {{"bytes", file_.bytes().size()}, {"sha256", sha256_}}; }

  std::vector<int64_t> encode(const std::string& text) const override {
    std::vector<int64_t> tokens;
    for (size_t offset = 0; offset < text.size();) {
      if (bytes_only()) {
        tokens.push_back(static_cast<unsigned char>(text[offset++]));
        continue;
      }
      const size_t begin = offset;
      const auto code_point = next_code_point(text, offset);
      if (!code_point) throw DataError(fmt::format("byte {} of the text is not valid UTF-8", begin));
      const auto found = std::lower_bound(vocabulary_.begin(), vocabulary_.end(), *code_point);
      if (found == vocabulary_.end() || *found != *code_point)
        throw DataError(fmt::format("\"{}\" is no character of {}, so the model has no token for it",
                                    text.substr(begin, offset - begin), options_.path));
      tokens.push_back(found - vocabulary_.begin());
    }
    return tokens;
  }

  /// Bytes may come out as invalid UTF-8. A token beyond the vocabulary (a model may have more
  /// entries than the file has characters) shows as U+FFFD.
  std::string decode(const std::vector<int64_t>& tokens) const override {
    std::string text;
    for (const int64_t token : tokens) {
      if (token < 0 || token >= vocab_size()) append_utf8(text, 0xfffd);
      else if (bytes_only()) text += static_cast<char>(token);
      else append_utf8(text, vocabulary_[token]);
    }
    return text;
  }

 private:
  static const std::string& required_path(const Options& options) {
    if (const auto reasons = refusals(options, 0); !reasons.empty()) throw ConfigError("data." + reasons.front());
    return options.path;
  }

  bool bytes_only() const { return options_.tokens == "bytes"; }

  /// index * rows + row, modulo the number of windows, without overflow.
  static int64_t validation_window(int64_t index, int64_t rows, int64_t row, int64_t num_windows) {
    const auto windows = static_cast<unsigned __int128>(num_windows);
    const auto window = static_cast<unsigned __int128>(index) * static_cast<unsigned __int128>(rows) + row;
    return static_cast<int64_t>(window % windows);
  }

  /// The file's code points, sorted; also counts them and checks the encoding.
  std::u32string vocabulary() {
    const auto bytes = file_.bytes();
    if (bytes.empty()) throw DataError(fmt::format("{}: byte 0: the file is empty; a text is needed", options_.path));
    sha256_ = sha256(bytes);
    if (bytes_only()) return {};
    std::vector<char> seen(0x80);  // grows with what is seen: a small text costs little
    int64_t count = 0;
    for (size_t offset = 0; offset < bytes.size(); ++count) {
      // Runs of ASCII, most of most texts, in a loop without calls: 300 MB took 3.0 s of CPU, now .4 s.
      const size_t begin = offset;
      size_t end = begin;
      for (; end < bytes.size() && static_cast<unsigned char>(bytes[end]) < 0x80; ++end) seen[bytes[end]] = 1;
      count += static_cast<int64_t>(end - begin);
      offset = end;
      if (offset == bytes.size()) break;
      const auto code_point = next_code_point(bytes, offset);
      if (!code_point)
        throw DataError(
            fmt::format("{}: byte {}: 0x{:02x} is not valid UTF-8 here; convert the file (iconv -t UTF-8) or set "
                        "data.tokens to \"bytes\"",
                        options_.path, offset, static_cast<unsigned char>(bytes[offset])));
      if (*code_point >= seen.size()) seen.resize(*code_point + 1);
      seen[*code_point] = 1;
    }
    num_characters_ = count;
    std::u32string sorted;
    for (char32_t code_point = 0; code_point < seen.size(); ++code_point)
      if (seen[code_point]) sorted += code_point;
    if (sorted.size() < 2)
      throw DataError(
          fmt::format("{}: holds one distinct character, {} times; there is nothing to predict: use a text "
                      "with at least two",
                      options_.path, count));
    return sorted;
  }

  EncodedText encoded() const {
    return bytes_only() ? EncodedText(file_.bytes()) : EncodedText(file_.bytes(), vocabulary_, num_characters_);
  }

  /// Both parts must hold a window, whichever is asked for: a run needs both, and should hear of it
  /// before it trains.
  void check_length(int64_t context) const {
    const int64_t num_validation = text_.size() - num_train_;
    if (const auto wanted = options_.unique_tokens; wanted && (*wanted > num_train_ || *wanted <= context))
      throw DataError(fmt::format("{}: data.unique_tokens {} cannot be had: the part that trains has {} tokens, and a "
                                  "window takes {}; ask for {} to {}",
                                  options_.path, *wanted, num_train_, context + 1, context + 1, num_train_));
    if (std::min(num_train_, num_validation) > context) return;
    throw DataError(fmt::format(
        "{}: byte {}: the file ends after {} tokens, {} to train and {} to validate, but each part needs "
        "{} for context {}; use a longer text, a shorter data.context or another data.train_fraction",
        options_.path, file_.bytes().size(), text_.size(), num_train_, num_validation, context + 1, context));
  }

  Options options_;
  MappedFile file_;
  std::string sha256_;
  int64_t num_characters_ = 0;
  std::u32string vocabulary_;  // empty for bytes
  EncodedText text_;
  int64_t num_train_ = 0;
  int64_t num_unique_ = 0;  // of them, those that are seen
};

const RegisterSource<Text> register_text{
    {.name = "text", .summary = "a text file, by characters or bytes; its entropy is unknown", .source = "a file"}};

}  // namespace
}  // namespace attnscale

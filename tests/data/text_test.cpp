#include <filesystem>
#include <fstream>
#include <set>

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/hash.h"
#include "data/utf8.h"
#include "sources_for_tests.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

/// A file with this content, removed at the end of the test.
class ScratchFile {
 public:
  explicit ScratchFile(const std::string& content)
      : path_(std::filesystem::temp_directory_path() /
              ("attnscale-text-" + std::to_string(::getpid()) + "-" + std::to_string(count_++))) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~ScratchFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }
  std::shared_ptr<const Source> open(Json options = Json::object()) const {
    options["path"] = path();
    return make_source("text", options);
  }

 private:
  static inline int count_ = 0;
  std::filesystem::path path_;
};

/// 0123456789 repeated: a token tells its place modulo 10.
std::string digits(int64_t length) {
  std::string text;
  for (int64_t i = 0; i < length; ++i) text += static_cast<char>('0' + i % 10);
  return text;
}

std::string repeat(const std::string& text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

std::vector<int64_t> row_of(const Batch& batch, int64_t row) {
  const auto begin = batch.tokens.begin() + row * (batch.context + 1);
  return {begin, begin + batch.context + 1};
}

}  // namespace

TEST_CASE("text: characters become tokens in the order of their code points, and back") {
  const ScratchFile file(repeat("b a\n", 20));
  const auto source = file.open();
  CHECK(source->vocab_size() == 4);  // newline, space, a, b
  CHECK(source->decode({0, 1, 2, 3}) == "\n ab");
  CHECK(source->decode({3, 4, -1}) == "b\xef\xbf\xbd\xef\xbf\xbd");
  const auto row = row_of(source->batch(Split::validation, 0, 0, 1, 7), 0);
  CHECK(row == std::vector<int64_t>{3, 1, 2, 0, 3, 1, 2, 0});  // 72 tokens train: a multiple of 4
  CHECK(source->bayes_log_probabilities(source->batch(Split::train, 0, 0, 1, 7)).empty());
  CHECK_FALSE(source->truth(7));
}

TEST_CASE("text: every width of characters gives the file's own text back") {
  // 1 byte a character; up to 256 distinct (uint8); above 256 (uint16); above 65536 (uint32); with 4-byte characters.
  std::string latin, huge, wide;
  for (char32_t c = 0x20; c < 0x100; ++c)
    if (c < 0x7f || c > 0xbf) append_utf8(latin, c);  // 95 + 64 distinct
  for (char32_t c = 0x4e00; c < 0x5000; ++c) append_utf8(wide, c);
  for (char32_t c = 0x10000; c < 0x10000 + 70000; ++c) append_utf8(huge, c);
  for (const auto& text : {digits(300), latin, repeat(wide, 2), huge}) {
    const ScratchFile file(text);
    const auto source = file.open({{"train_fraction", 0.5}});
    std::u32string characters;
    for (size_t offset = 0; offset < text.size();) characters += next_code_point(text, offset).value();
    CHECK(source->vocab_size() == static_cast<int64_t>(std::set(characters.begin(), characters.end()).size()));
    const auto num_train = static_cast<int64_t>(characters.size() / 2);
    const int64_t context = num_train - 1;  // both parts hold exactly one window, or one token more
    std::string expected;
    for (const char32_t c : characters.substr(num_train, num_train)) append_utf8(expected, c);
    const Batch batch = source->batch(Split::validation, 0, 0, 1, context);
    CHECK(source->decode(batch.tokens) == expected);
  }
}

TEST_CASE("text: bytes are tokens 0 to 255, whatever the encoding") {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const ScratchFile file(all);
  const auto source = file.open({{"tokens", "bytes"}, {"train_fraction", 0.5}});
  CHECK(source->vocab_size() == 256);
  const auto row = row_of(source->batch(Split::validation, 0, 0, 1, 127), 0);
  for (int64_t i = 0; i < 128; ++i) CHECK(row[i] == 128 + i);
  CHECK(source->decode(row) == all.substr(128));
}

TEST_CASE("text: training windows lie inside the training part and reach both of its ends") {
  const ScratchFile file(std::string(90, 'a') + std::string(10, 'b'));
  const auto a_only = file.open()->batch(Split::train, 0, 0, 2000, 8);
  for (const int64_t token : a_only.tokens) REQUIRE(token == 0);

  // Tokens tell their place: 100 distinct bytes, of which 90 train and windows may begin at 0 .. 81.
  std::string places;
  for (int i = 0; i < 100; ++i) places += static_cast<char>(i);
  const ScratchFile distinct(places);
  std::set<int64_t> begins;
  const auto batch = distinct.open({{"tokens", "bytes"}})->batch(Split::train, 0, 0, 4000, 8);
  for (int64_t row = 0; row < batch.rows; ++row) {
    begins.insert(row_of(batch, row).front());
    for (int64_t at = 1; at <= 8; ++at) REQUIRE(row_of(batch, row)[at] == row_of(batch, row)[0] + at);
  }
  // 4000 draws miss one of 82 places with probability 82 exp(-48).
  CHECK(begins.size() == 82);
  CHECK(*begins.begin() == 0);
  CHECK(*begins.rbegin() == 81);
}

TEST_CASE("text: of unique tokens only those train, validation stays the same, and more than there are is refused") {
  const ScratchFile file(digits(1000));
  const auto all = file.open(), few = file.open({{"unique_tokens", 30}});
  // Digits repeat: of 30 tokens with windows of 28 + 1 only places 0 and 1 begin one.
  std::set<int64_t> begins;
  for (int64_t index = 0; index < 20; ++index) {
    const auto batch = few->batch(Split::train, 1, index, 4, 28);
    for (int64_t row = 0; row < 4; ++row) begins.insert(row_of(batch, row).front());
  }
  CHECK(begins == std::set<int64_t>{0, 1});
  CHECK(few->batch(Split::validation, 1, 0, 2, 28).tokens == all->batch(Split::validation, 1, 0, 2, 28).tokens);
  CHECK_THROWS_MATCHES(file.open({{"unique_tokens", 901}})->batch(Split::train, 1, 0, 1, 28), DataError,
                       MessageMatches(ContainsSubstring("ask for 29 to 900")));
  CHECK_THROWS_AS(file.open({{"unique_tokens", 28}})->batch(Split::train, 1, 0, 1, 28), DataError);
}

TEST_CASE("text: training windows depend on seed and index alone") {
  const ScratchFile file(digits(5000) + "x");
  const auto source = file.open();
  const auto tokens = source->batch(Split::train, 1, 2, 16, 9).tokens;
  CHECK(tokens == file.open()->batch(Split::train, 1, 2, 16, 9).tokens);
  CHECK(tokens != source->batch(Split::train, 1, 3, 16, 9).tokens);
  CHECK(tokens != source->batch(Split::train, 2, 2, 16, 9).tokens);
}

TEST_CASE("text: validation windows follow each other, predict each token once, and wrap around") {
  std::string places;
  for (int i = 0; i < 100; ++i) places += static_cast<char>(i);
  const ScratchFile file(places);
  const auto source = file.open({{"tokens", "bytes"}, {"train_fraction", 0.5}});
  // 50 tokens from 50 on, context 8: windows at 50, 58, .. 90 hold 9 tokens each; the seventh would need 99 + 8.
  std::vector<int64_t> begins, targets;
  for (int64_t index = 0; index < 4; ++index) {
    const auto batch = source->batch(Split::validation, 7, index, 2, 8);
    CHECK(batch.tokens == source->batch(Split::validation, 8, index, 2, 8).tokens);
    for (int64_t row = 0; row < 2; ++row) {
      const auto window = row_of(batch, row);
      begins.push_back(window[0]);
      for (int64_t at = 1; at <= 8; ++at) REQUIRE(window[at] == window[0] + at);
      if (begins.size() <= 6) targets.insert(targets.end(), window.begin() + 1, window.end());
    }
  }
  CHECK(begins == std::vector<int64_t>{50, 58, 66, 74, 82, 90, 50, 58});
  for (size_t i = 0; i < targets.size(); ++i) CHECK(targets[i] == 51 + static_cast<int64_t>(i));
  CHECK(targets.size() == 48);
  // Far out, index * rows exceeds 64 bits; 2^62 * 4 windows modulo 6 is 4.
  CHECK(source->batch(Split::validation, 0, int64_t{1} << 62, 4, 8).tokens[0] == 50 + 8 * 4);
}

TEST_CASE("text: the fingerprint names size and SHA-256, and not where the file lies") {
  const ScratchFile file(repeat("abc", 100)), copy(repeat("abc", 100));
  const Json fingerprint = file.open()->fingerprint();
  CHECK(fingerprint == Json({{"bytes", 300}, {"sha256", sha256(repeat("abc", 100))}}));
  CHECK(copy.open()->fingerprint() == fingerprint);
}

TEST_CASE("text: a file of one distinct character is refused, two are enough") {
  CHECK_THROWS_MATCHES(ScratchFile(std::string(500, 'a')).open(), DataError,
                       MessageMatches(ContainsSubstring("one distinct character, 500 times")));
  CHECK(ScratchFile(std::string(500, 'a') + "b").open()->vocab_size() == 2);
}

TEST_CASE("text: validation windows are counted before the first comes again") {
  const ScratchFile file(digits(1000));
  const auto source = file.open();  // 100 tokens validate
  CHECK(source->num_validation_windows(9) == 11);
  CHECK(source->num_validation_windows(33) == 3);
  CHECK(source->num_validation_windows(50) == 1);
  CHECK_FALSE(make_source("zipf_memory")->num_validation_windows(9));
}

TEST_CASE("text: files that cannot be read are input-output errors") {
  const auto refuses = [](const std::string& path, const char* part) {
    try {
      make_source("text", {{"path", path}});
      FAIL("accepted " << path);
    } catch (const IoError& error) {
      CHECK(error.code() == ExitCode::io);
      CHECK_THAT(error.what(), ContainsSubstring(path) && ContainsSubstring(part));
    }
  };
  refuses("/no/such/corpus.txt", "No such file");
  refuses(std::filesystem::temp_directory_path().string(), "not a regular file");
  const ScratchFile place("");
  const auto pipe = place.path() + "-pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  refuses(pipe, "not a regular file");  // and does not wait for a writer
  std::filesystem::remove(pipe);
  CHECK_THROWS_MATCHES(make_source("text"), ConfigError, MessageMatches(ContainsSubstring("path is empty")));
}

TEST_CASE("text: empty and short files are refused with what is needed") {
  CHECK_THROWS_MATCHES(ScratchFile("").open(), DataError, MessageMatches(ContainsSubstring("empty")));
  CHECK_THROWS_MATCHES(ScratchFile("").open({{"tokens", "bytes"}}), DataError,
                       MessageMatches(ContainsSubstring("empty")));
  const ScratchFile file(digits(100));
  const auto source = file.open();
  CHECK_NOTHROW(source->batch(Split::validation, 0, 0, 1, 9));
  // 10 tokens validate: one window of context 9. Training would still have room, but a run needs both.
  for (const Split split : {Split::train, Split::validation})
    CHECK_THROWS_MATCHES(source->batch(split, 0, 0, 1, 10), DataError,
                         MessageMatches(ContainsSubstring(file.path()) && ContainsSubstring("byte 100") &&
                                        ContainsSubstring("10 to validate") && ContainsSubstring("11 for context 10")));
  CHECK_THROWS_AS(ScratchFile("a").open()->batch(Split::train, 0, 0, 1, 1), DataError);
}

TEST_CASE("text: invalid UTF-8 is refused with its byte offset, and taken as bytes") {
  const std::vector<std::pair<std::string, size_t>> damaged = {
      {"abc\xff", 3},            // never a lead byte
      {"abc\x80", 3},            // continuation without lead
      {"ab\xc3", 2},             // cut off after one of two
      {"ab\xe2\x82", 2},         // cut off after two of three
      {"ab\xf0\x9f\x98", 2},     // cut off after three of four
      {"\xc0\xaf", 0},           // overlong, two bytes
      {"x\xe0\x80\xaf", 1},      // overlong, three
      {"x\xf0\x80\x80\xaf", 1},  // overlong, four
      {"\xed\xa0\x80", 0},       // surrogate
      {"\xf4\x90\x80\x80", 0},   // above U+10FFFF
      {"\xf5\x80\x80\x80", 0},   // lead byte above
      {"\xc3\xa9\xc3(", 2},      // a good one, then a broken one
      {"\xff\xfe"
       "a\0b\0",
       0},  // UTF-16 with byte-order mark
  };
  for (const auto& [bytes, offset] : damaged) {
    const ScratchFile file(bytes);
    INFO("case " << (&bytes - &damaged.front().first));
    CHECK_THROWS_MATCHES(file.open(), DataError,
                         MessageMatches(ContainsSubstring(file.path() + ": byte " + std::to_string(offset) + ":") &&
                                        ContainsSubstring("bytes")));
    CHECK(file.open({{"tokens", "bytes"}})->vocab_size() == 256);
  }
  // The largest and the neighbours of the gaps are valid, and so is a zero byte.
  CHECK(ScratchFile(std::string("\0\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80", 11)).open()->vocab_size() == 4);
}

TEST_CASE("text: tinyshakespeare has 65 characters and its published hash") {
  const auto path = std::filesystem::path(ATTNSCALE_SOURCE_DIR) / ".." / "shared" / "data" / "tinyshakespeare.txt";
  if (!std::filesystem::exists(path)) SKIP("tinyshakespeare.txt is not there");
  const auto source = make_source("text", {{"path", path.string()}});
  CHECK(source->vocab_size() == 65);
  CHECK(source->fingerprint()["bytes"] == 1115394);
  CHECK(source->fingerprint()["sha256"] == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed");
  // int(0.9 * 1115394) = 1003854 train, as nanoGPT splits; the next words begin the validation set.
  std::ifstream stream(path, std::ios::binary);
  stream.seekg(1003854);
  std::string expected(65, '\0');
  stream.read(expected.data(), 65);
  CHECK(source->decode(source->batch(Split::validation, 0, 0, 1, 64).tokens) == expected);
  CHECK_NOTHROW(source->batch(Split::train, 0, 0, 12, 64));
}

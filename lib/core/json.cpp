#include "core/json.h"

#include <algorithm>
#include <iterator>
#include <set>

#include <fmt/format.h>

#include "core/files.h"

namespace attnscale {
namespace {

constexpr size_t max_depth = 64;

/// Turns the library's events into a value, and notes where each one began.
class LocatingReader : public nlohmann::json_sax<Json> {
 public:
  LocatingReader(std::string_view text, JsonDocument& document) : text_(text), document_(document) {}

  // The parser reads through this iterator; its position tells the end of the current token.
  struct Cursor {
    using difference_type = std::ptrdiff_t;
    using value_type = char;
    using pointer = const char*;
    using reference = const char&;
    using iterator_category = std::input_iterator_tag;
    const char* at;
    size_t* consumed;
    const char* begin;
    reference operator*() const { return *at; }
    Cursor& operator++() {
      ++at;
      *consumed = static_cast<size_t>(at - begin);
      return *this;
    }
    bool operator==(const Cursor& other) const { return at == other.at; }
    bool operator!=(const Cursor& other) const { return at != other.at; }
  };

  void parse() {
    Cursor first{text_.data(), &consumed_, text_.data()};
    Cursor last{text_.data() + text_.size(), &consumed_, text_.data()};
    Json::sax_parse(first, last, this, nlohmann::detail::input_format_t::json, true, true);
  }

  bool null() override { return scalar(Json(nullptr)); }
  bool boolean(bool value) override { return scalar(Json(value)); }
  bool number_integer(number_integer_t value) override { return scalar(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return scalar(Json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return scalar(Json(value)); }
  bool string(string_t& value) override { return scalar(Json(std::move(value))); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto start = token_start();
    finish_token();
    auto& level = levels_.back();
    if (!level.keys.insert(name).second)
      fail(start, fmt::format("{}: duplicate key; keep one of them", join_path(level.path, name)));
    level.key = name;
    level.key_start = start;
    return true;
  }

  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception& error) override {
    // "[json.exception...] parse error at line 1, column 8: syntax error while parsing value - ..."
    std::string message = error.what();
    if (const auto colon = message.find(": "); colon != std::string::npos) message = message.substr(colon + 2);
    // What was read last may be any bytes; what we print is UTF-8.
    message = Json::parse(Json(message).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
    if (error.id == 406) message = "number too large for a double; write one below 1.8e308";
    else if (byte > text_.size()) message += "; the text ends here, as if truncated: close what is open";
    else message += "; this is not JSON, mend the text here";
    fail(byte > 0 ? byte - 1 : 0, message);
  }

 private:
  struct Level {
    Json value;
    std::string path;
    std::set<std::string> keys;
    std::string key;
    size_t key_start = 0;
  };

  /// The place behind what was found, or the text's end.
  size_t behind(size_t found, size_t length) const {
    return found == std::string_view::npos ? text_.size() : found + length;
  }

  size_t token_start() const {
    constexpr std::string_view line_ends("\n\r\0", 3);  // what the library takes for a comment's end
    size_t at = last_end_;
    while (at < text_.size()) {
      const char c = text_[at];
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == ':') ++at;
      else if (text_.substr(at, 2) == "//") at = behind(text_.find_first_of(line_ends, at), 1);
      else if (text_.substr(at, 2) == "/*") at = behind(text_.find("*/", at + 2), 2);
      else break;
    }
    return at;
  }
  void finish_token() { last_end_ = consumed_; }

  std::string child_path() const {
    if (levels_.empty()) return "";
    const auto& parent = levels_.back();
    if (parent.value.is_array()) return fmt::format("{}[{}]", parent.path, parent.value.size());
    return join_path(parent.path, parent.key);
  }

  TextPosition position_of(size_t offset) {
    // Tokens come in order, so the search goes on from the last one.
    if (offset < seen_) seen_ = 0, seen_position_ = {};
    for (; seen_ < offset && seen_ < text_.size(); ++seen_) {
      if (text_[seen_] == '\n') ++seen_position_.line, seen_position_.column = 1;
      else ++seen_position_.column;
    }
    return seen_position_;
  }

  void note(const std::string& path) {
    const bool is_member = !levels_.empty() && levels_.back().value.is_object();
    document_.positions[path] = position_of(is_member ? levels_.back().key_start : token_start());
  }

  bool scalar(Json value) {
    note(child_path());
    finish_token();
    add(std::move(value));
    return true;
  }
  bool open(Json container) {
    if (levels_.size() >= max_depth)
      fail(token_start(), fmt::format("more than {} levels deep; no spec needs that", max_depth));
    auto path = child_path();
    note(path);
    finish_token();
    levels_.push_back({std::move(container), std::move(path), {}, {}, 0});
    return true;
  }
  bool close() {
    finish_token();
    Json value = std::move(levels_.back().value);
    levels_.pop_back();
    add(std::move(value));
    return true;
  }
  void add(Json value) {
    if (levels_.empty()) document_.value = std::move(value);
    else if (levels_.back().value.is_array()) levels_.back().value.push_back(std::move(value));
    else levels_.back().value[levels_.back().key] = std::move(value);
  }

  [[noreturn]] void fail(size_t offset, const std::string& message) {
    const auto at = position_of(offset);
    throw ConfigError(fmt::format("{}:{}:{}: {}", document_.name, at.line, at.column, message));
  }

  std::string_view text_;
  JsonDocument& document_;
  std::vector<Level> levels_;
  size_t consumed_ = 0, last_end_ = 0;
  size_t seen_ = 0;
  TextPosition seen_position_;
};

/// A text in quotes; the library escapes what has to be.
void write_text(const std::string& text, std::string& into) {
  const auto plain = [](unsigned char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; };
  if (std::all_of(text.begin(), text.end(), plain)) into.append(1, '"').append(text).append(1, '"');
  else into += Json(text).dump();
}

void write_canonical(const Json& value, std::string& into) {
  if (value.is_object()) {
    std::vector<const Json::object_t::value_type*> members;
    members.reserve(value.size());
    for (const auto& member : value.get_ref<const Json::object_t&>()) members.push_back(&member);
    std::sort(members.begin(), members.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
    into += '{';
    for (const auto* member : members) {
      if (member != members.front()) into += ',';
      write_text(member->first, into);
      into += ':';
      write_canonical(member->second, into);
    }
    into += '}';
  } else if (value.is_array()) {
    into += '[';
    for (size_t i = 0; i < value.size(); ++i) {
      if (i > 0) into += ',';
      write_canonical(value[i], into);
    }
    into += ']';
  } else if (value.is_string()) {
    write_text(value.get_ref<const std::string&>(), into);
  } else if (value.is_number_unsigned()) {
    fmt::format_to(std::back_inserter(into), "{}", value.get<uint64_t>());
  } else if (value.is_number_integer()) {
    fmt::format_to(std::back_inserter(into), "{}", value.get<int64_t>());
  } else {
    into += value.is_boolean() ? (value.get<bool>() ? "true" : "false") : value.dump();
  }
}

}  // namespace

std::string join_path(const std::string& parent, const std::string& key) {
  return parent.empty() ? key : parent + "." + key;
}

std::string JsonDocument::place(const std::string& path) const {
  std::string candidate = path;
  while (true) {
    if (const auto found = origins.find(candidate); found != origins.end()) return found->second;
    if (const auto found = positions.find(candidate); found != positions.end())
      return fmt::format("{}:{}:{}", name, found->second.line, found->second.column);
    const auto cut = candidate.find_last_of(".[");
    if (cut == std::string::npos) break;
    candidate.resize(cut);
  }
  return name + ":1:1";
}

void JsonDocument::refuse(const std::vector<Problem>& problems) const {
  if (problems.empty()) return;
  std::string message;
  std::set<std::string> said;  // runs that share a value share its problem: say it once
  for (const auto& problem : problems) {
    auto line = fmt::format("{}: {}: {}", place(problem.path), problem.path.empty() ? "(top level)" : problem.path,
                            problem.message);
    if (!said.insert(line).second) continue;
    message += (message.empty() ? "" : "\n") + line;
  }
  throw ConfigError(message);
}

JsonDocument parse_json(std::string_view text, const std::string& name) {
  JsonDocument document;
  document.name = name;
  if (text.substr(0, 3) == "\xEF\xBB\xBF")
    throw ConfigError(name + ":1:1: begins with a byte-order mark; save the file as UTF-8 without one");
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
    throw ConfigError(name + ":1:1: is empty; expected a JSON object");
  LocatingReader(text, document).parse();
  return document;
}

JsonDocument read_json(const std::filesystem::path& file, int64_t most_bytes) {
  return parse_json(read_bounded(file, most_bytes), file == "-" ? "<stdin>" : file.string());
}

std::string describe_value(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  auto text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  if (value.is_string()) return "the text " + text;
  if (value.is_boolean()) return text;
  return "the number " + text;
}

std::string canonical(const Json& value) {
  std::string text;
  write_canonical(value, text);
  return text;
}

}  // namespace attnscale

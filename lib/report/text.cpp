#include "report/text.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

namespace attnscale {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

/// C1 controls (U+0080..9F), and the marks and overrides that change the direction of text.
bool changes_display(std::string_view character) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 2) return byte(0) == 0xC2 && byte(1) < 0xA0;
  if (character.size() != 3 || byte(0) != 0xE2) return false;
  if (byte(1) == 0x80) return (byte(2) >= 0x8E && byte(2) <= 0x8F) || (byte(2) >= 0xA8 && byte(2) <= 0xAE);
  return byte(1) == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9;
}

size_t sequence_length(unsigned char lead) {
  return lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
}

}  // namespace

std::string readable(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::string_view character = text.substr(i, sequence_length(lead));
    i += character.size();
    if (lead == '\n' || lead == '\t' || lead == '\r') result += ' ';
    else if (lead < 0x20 || lead == 0x7F || changes_display(character)) result += kReplacement;
    else result += character;
  }
  return result;
}

std::string html_escape(std::string_view text) {
  std::string result;
  for (const char c : readable(text)) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string script_json(const Json& value) {
  std::string result;
  for (const char c : value.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '<' || c == '>' || c == '&') result += fmt::format("\\u{:04x}", c);
    else result += c;
  }
  return result;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string result;
  result.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (j < count ? static_cast<unsigned char>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) result += j <= count ? digits[group >> (18 - 6 * j) & 63] : '=';
  }
  return result;
}

std::string loss_text(std::optional<double> loss) { return loss ? fmt::format("{:.4f}", *loss) : "–"; }

std::string exact_text(double value) {
  const bool minus_zero = value == 0 && std::signbit(value);
  if (std::abs(value) < 9007199254740992.0 && value == std::floor(value) && !minus_zero) {
    return fmt::format("{}", static_cast<int64_t>(value));
  }
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value);
  return {digits, end.ptr};
}

std::string counted(size_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string joined(const std::vector<std::string>& parts, std::string_view separator) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : std::string(separator)) + part;
  return text;
}

}  // namespace attnscale

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace attnscale {

constexpr char32_t kLargestCodePoint = 0x10ffff;

/// As `next_code_point`, where the first byte is not ASCII.
std::optional<char32_t> next_wide_code_point(std::string_view text, size_t& offset);

/// The code point that starts at `offset`, which moves behind it; nothing, and `offset` unmoved,
/// where the bytes are not valid UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above
/// U+10FFFF, nothing cut off). `offset` must be below the size.
inline std::optional<char32_t> next_code_point(std::string_view text, size_t& offset) {
  const auto lead = static_cast<unsigned char>(text[offset]);
  if (lead >= 0x80) return next_wide_code_point(text, offset);
  ++offset;
  return lead;
}

/// Appends a code point as UTF-8.
void append_utf8(std::string& text, char32_t code_point);

}  // namespace attnscale

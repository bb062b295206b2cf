#pragma once

#include <bit>
#include <cstring>
#include <string>

namespace attnscale {

/// A number's bytes, the least significant first, as the binary formats here want them.
template <class Number>
void append_little_endian(std::string& to, Number value) {
  static_assert(std::endian::native == std::endian::little, "on another machine the bytes would have to be turned");
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  to.append(bytes, sizeof value);
}

}  // namespace attnscale

// The tokenizer's reader of UTF-8: each code point is written back as the bytes that it was read from.

#include <cstdint>
#include <cstdlib>

#include "data/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (size_t at = 0; at < size;) {
    const auto begin = at;
    const auto code_point = attnscale::next_code_point(text, at);
    if (!code_point) {
      if (at != begin) std::abort();
      ++at;
      continue;
    }
    std::string bytes;
    attnscale::append_utf8(bytes, *code_point);
    if (at <= begin || at - begin > 4 || text.substr(begin, at - begin) != bytes) std::abort();
  }
  return 0;
}

// The reader of every JSON file: any bytes are a document or a message, and places lie in the text.

#include <cstdint>
#include <cstdlib>

#include "core/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto document = attnscale::parse_json(text, "fuzz");
    for (const auto& [path, position] : document.positions)
      if (position.line < 1 || position.column < 1 || position.line > static_cast<int64_t>(size) + 1) std::abort();
    // What was read can be written and read again, to the same value.
    const auto again = attnscale::parse_json(document.value.dump(), "again");
    if (attnscale::canonical(again.value) != attnscale::canonical(document.value)) std::abort();
  } catch (const attnscale::ConfigError&) {
  }
  return 0;
}

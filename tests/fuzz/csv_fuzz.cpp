// The reader of CSV tables: any bytes are records or a message, and it comes to an end.

#include <cstdint>
#include <cstdlib>

#include "core/error.h"
#include "scaling/csv.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    attnscale::CsvReader reader({reinterpret_cast<const char*>(data), size}, "fuzz");
    std::vector<std::string> fields;
    for (size_t records = 0; reader.next(fields); ++records)
      if (records > size || reader.line() < 1 || fields.empty()) std::abort();
  } catch (const attnscale::DataError&) {
  }
  return 0;
}

// Tables of training runs in any of their formats: any bytes are points that a fit can take, or a message.

#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "scaling/table.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using attnscale::ColumnMap;
  if (size == 0) return 0;
  static const char* const files[] = {"fuzz.csv", "fuzz.json", "fuzz.jsonl", "fuzz"};
  static const ColumnMap by_default, mapped = ColumnMap::parse("N=n,D=d,L=l");
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const auto points = attnscale::points_of_text(text, files[data[0] & 3], data[0] & 4 ? mapped : by_default);
    for (const auto& point : points) {
      for (const double number : {point.N, point.D, point.C, point.L})
        if (!std::isfinite(number) || number < 0) std::abort();
      if (point.done() && !(point.L > 0)) std::abort();
    }
    if (attnscale::independent_groups(points).size() != points.size()) std::abort();
  } catch (const attnscale::DataError&) {
  }
  return 0;
}

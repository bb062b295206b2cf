// Formulas of specs and filters: any bytes are a formula or a message, and its value a value or a message.

#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "core/expression.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using attnscale::Json;
  static const std::vector<Json> samples = {3, -7, 2.5, "linear", true, nullptr, Json::array({1, 2}), int64_t{1} << 62};
  try {
    const auto formula = attnscale::Expression::parse({reinterpret_cast<const char*>(data), size});
    std::vector<const Json*> values;
    for (size_t i = 0; i < formula.names().size(); ++i) values.push_back(&samples[(i + size) % samples.size()]);
    const auto value = formula.value(values);
    if (value.is_number_float() && !std::isfinite(value.get<double>())) std::abort();
  } catch (const attnscale::ConfigError&) {
  }
  return 0;
}

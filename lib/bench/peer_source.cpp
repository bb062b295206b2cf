#include "bench/peer_source.h"

#include <fmt/format.h>

#include "bench/peer_script.h"
#include "core/json.h"

namespace attnscale {

std::string with_common_module(const std::string& script) {
  // A string of JSON in ASCII is one of Python.
  const auto source = Json(peer_common_module).dump(-1, ' ', /*ensure_ascii=*/true);
  return fmt::format(
      "import sys, types\n"
      "sys.modules['peer_common'] = types.ModuleType('peer_common')\n"
      "exec({}, vars(sys.modules['peer_common']))\n{}",
      source, script);
}

}  // namespace attnscale

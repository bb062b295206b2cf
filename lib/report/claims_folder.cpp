#include <fmt/format.h>

#include "core/error.h"
#include "report/claims.h"

namespace attnscale {

Json claims_report(const std::filesystem::path& folder, const std::filesystem::path& spec) {
  const auto document = read_json(spec.empty() ? folder / "spec.json" : spec);
  if (!document.value.is_object() || !document.value.contains("claims"))
    throw DataError(
        fmt::format("{}: has no \"claims\"; write down what the sweep is to decide, such as "
                    "[{{\"claim\": \"deeper is better\", \"measure\": \"loss\", \"of\": \"depth > 2\", "
                    "\"against\": \"depth <= 2\", \"below\": 0}}]",
                    document.name));
  std::vector<Problem> problems;
  const auto claims = read_claims(document.value["claims"], problems);
  document.refuse(problems);
  return claims_report(RunTable::read(folder), claims, document.value.value("name", folder.filename().string()));
}

}  // namespace attnscale

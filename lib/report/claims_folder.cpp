#include <algorithm>

#include <fmt/format.h>

#include "core/error.h"
#include "report/claims.h"

namespace attnscale {
namespace {

constexpr double level_of_all = 0.95;

Json answer_or_refusal(const Claim& claim, const RunTable& table, double level) {
  std::string reason = claim.refused;
  if (reason.empty()) {
    try {
      return answer_to(claim, table, level);
    } catch (const ConfigError& error) {
      reason = error.what();
    }
  }
  return {{"claim", claim.text}, {"expected", claim.expected()}, {"verdict", "refused"},
          {"level", level},      {"seeds", Json::array()},       {"runs", 0},
          {"diverged", 0},       {"by_seed", Json::array()},     {"notes", Json::array({reason})}};
}

}  // namespace

Json claims_report(const RunTable& table, const std::vector<Claim>& claims, const std::string& name) {
  Json report = {
      {"schema", "attnscale.verdict/1"}, {"sweep", name}, {"level", level_of_all}, {"claims", Json::array()}};
  const double level = 1 - (1 - level_of_all) / static_cast<double>(std::max<size_t>(1, claims.size()));
  for (const auto& claim : claims) report["claims"].push_back(answer_or_refusal(claim, table, level));
  return report;
}

Json claims_report(const std::filesystem::path& folder, const std::filesystem::path& spec) {
  const auto document = read_json(spec.empty() ? folder / "spec.json" : spec);
  if (!document.value.is_object() || !document.value.contains("claims"))
    throw DataError(
        fmt::format("{}: has no \"claims\"; write down what the sweep is to decide, such as "
                    "[{{\"claim\": \"deeper is better\", \"measure\": \"loss\", \"of\": \"depth > 2\", "
                    "\"against\": \"depth <= 2\", \"below\": 0}}]",
                    document.name));
  return claims_report(RunTable::read(folder), readable_claims(document),
                       document.value.value("name", folder.filename().string()));
}

}  // namespace attnscale

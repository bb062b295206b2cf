#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "report/claims.h"

namespace attnscale {
namespace {

std::string number_text(const Json& claim) {
  if (!claim.contains("estimate")) return "no number";
  std::string text = fmt::format("{:.4g}", claim["estimate"].get<double>());
  if (claim.contains("low"))
    text += fmt::format(" [{:.4g}, {:.4g}]", claim["low"].get<double>(), claim["high"].get<double>());
  return text;
}

/// 0, 1, 2 as 0 to 2.
std::string seeds_text(const Json& seeds) {
  std::vector<int64_t> numbers = seeds.get<std::vector<int64_t>>();
  std::sort(numbers.begin(), numbers.end());
  if (numbers.empty()) return "no seeds";
  const auto length = static_cast<int64_t>(numbers.size());
  if (length > 2 && numbers.back() - numbers.front() == length - 1)
    return fmt::format("seeds {} to {}", numbers.front(), numbers.back());
  return fmt::format("seed{} {}", length == 1 ? "" : "s", fmt::join(numbers, ", "));
}

std::string verdict_text(const Json& claim) {
  auto text = claim["verdict"].get<std::string>();
  if (claim.contains("more_seeds")) text += fmt::format(" ({} more seeds)", claim["more_seeds"].get<size_t>());
  return text;
}

std::string line_of(const Json& claim) {
  std::string line = fmt::format("  {}, expected {}; {}: {}\n", number_text(claim),
                                 claim["expected"].get<std::string>(), seeds_text(claim["seeds"]), verdict_text(claim));
  if (claim["diverged"] > 0)
    line += fmt::format("  {} of {} runs diverged\n", claim["diverged"].get<size_t>(), claim["runs"].get<size_t>());
  for (const auto& note : claim["notes"]) line += fmt::format("  note: {}\n", note.get<std::string>());
  return line;
}

}  // namespace

std::string claims_text(const Json& report) {
  std::string text;
  const auto& claims = report["claims"];
  for (size_t i = 0; i < claims.size(); ++i) {
    text += claims[i]["claim"].get<std::string>() + "\n" + line_of(claims[i]);
    if (report.contains("again")) text += "  again:\n" + line_of(report["again"]["claims"][i]);
  }
  text += fmt::format("\n{}, whose intervals hold together in {:g} % of sweeps",
                      claims.size() == 1 ? "One claim" : fmt::format("{} claims", claims.size()),
                      100 * report["level"].get<double>());
  if (report.contains("same"))
    text +=
        fmt::format("; {} of {} verdicts are the same with other seeds", report["same"].get<size_t>(), claims.size());
  return text + "\n";
}

Json with_rerun(Json report, const Json& again) {
  const auto &claims = report["claims"], &others = again["claims"];
  size_t same = 0;
  for (size_t i = 0; i < claims.size(); ++i) {
    const auto& seeds = claims[i]["seeds"];
    for (const auto& seed : others[i]["seeds"])
      if (std::find(seeds.begin(), seeds.end(), seed) != seeds.end())
        throw ConfigError(
            fmt::format("seed {} is in both sweeps; a rerun needs others: attnscale sweep SPEC --set "
                        "'seeds=[10, 11, 12]' --out DIR",
                        seed.dump()));
    if (claims[i]["verdict"] == others[i]["verdict"]) ++same;
  }
  report["again"] = again;
  report["same"] = same;
  return report;
}

}  // namespace attnscale

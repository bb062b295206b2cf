#include <algorithm>
#include <cmath>
#include <set>

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

bool is_refused(const Json& claim) { return claim["verdict"] == "refused"; }

std::string verdict_text(const Json& claim) {
  auto text = claim["verdict"].get<std::string>();
  if (claim.contains("more_seeds")) text += fmt::format(" ({} more seeds)", claim["more_seeds"].get<size_t>());
  return text;
}

std::string line_of(const Json& claim) {
  if (is_refused(claim)) return fmt::format("  refused: {}\n", claim["notes"][0].get<std::string>());
  std::string line = fmt::format("  {}, expected {}; {}: {}\n", number_text(claim),
                                 claim["expected"].get<std::string>(), seeds_text(claim["seeds"]), verdict_text(claim));
  if (claim["diverged"] > 0)
    line += fmt::format("  {} of {} runs diverged\n", claim["diverged"].get<size_t>(), claim["runs"].get<size_t>());
  for (const auto& note : claim["notes"]) line += fmt::format("  note: {}\n", note.get<std::string>());
  return line;
}

/// `-0.122 [-0.199, -0.046]`, with four digits from 10 on.
std::string short_number(const Json& claim) {
  if (!claim.contains("estimate")) return "no number";
  const auto digits = [](const Json& number) {
    const double value = number.get<double>();
    return std::abs(value) < 10 ? fmt::format("{:.3f}", value) : fmt::format("{:.4g}", value);
  };
  auto text = digits(claim["estimate"]);
  if (claim.contains("low")) text += fmt::format(" [{}, {}]", digits(claim["low"]), digits(claim["high"]));
  return text;
}

/// What stands in a cell of a table, where | would end it.
std::string cell_of(const std::string& text) {
  std::string escaped;
  for (const char letter : text) escaped += letter == '|' ? "\\|" : std::string(1, letter);
  return escaped;
}

std::string row_of(const Json& claim, const Json* again) {
  auto row = fmt::format("| {} | {} | {} | {} |", cell_of(claim["claim"].get<std::string>()),
                         claim["expected"].get<std::string>(), short_number(claim), verdict_text(claim));
  if (again != nullptr) row += fmt::format(" {} | {} |", short_number(*again), verdict_text(*again));
  return row + "\n";
}

/// A line for each note and for runs that diverged.
std::string remarks_on(const Json& claim, const std::string& where) {
  std::string text;
  const auto remark = [&](const std::string& words) {
    text += fmt::format("- {}{}: {}\n", claim["claim"].get<std::string>(), where, words);
  };
  if (claim["diverged"] > 0)
    remark(fmt::format("{} of {} runs diverged", claim["diverged"].get<size_t>(), claim["runs"].get<size_t>()));
  for (const auto& note : claim["notes"]) remark(note.get<std::string>());
  return text;
}

}  // namespace

std::string claims_markdown(const Json& report) {
  const bool twice = report.contains("again");
  const auto& claims = report["claims"];
  auto text = fmt::format(
      "Intervals hold together in {:g} % of sweeps.\n\n| claim | expected | number | verdict |{}\n"
      "|---|---|---|---|{}\n",
      100 * report["level"].get<double>(), twice ? " other seeds | verdict |" : "", twice ? "---|---|" : "");
  std::string remarks;
  Json others = Json::array();
  for (size_t i = 0; i < claims.size(); ++i) {
    const Json* again = twice ? &report["again"]["claims"][i] : nullptr;
    text += row_of(claims[i], again);
    remarks += remarks_on(claims[i], "");
    if (again == nullptr) continue;
    remarks += remarks_on(*again, ", with the other seeds");
    if ((*again)["seeds"].size() > others.size()) others = (*again)["seeds"];
  }
  if (!remarks.empty()) text += "\n" + remarks;
  if (twice)
    text += fmt::format("\nThe other seeds are {}: {} of {} verdicts are the same.\n",
                        seeds_text(others).substr(std::string("seeds ").size()), report["same"].get<size_t>(),
                        claims.size());
  return text;
}

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

std::string refusals(const Json& report) {
  std::set<std::string> lines;
  std::string text;
  for (const auto* part : {&report, report.contains("again") ? &report["again"] : nullptr}) {
    if (part == nullptr) continue;
    for (const auto& claim : (*part)["claims"])
      if (is_refused(claim) && lines.insert(claim["notes"][0].get<std::string>()).second)
        text += (text.empty() ? "" : "\n") + claim["notes"][0].get<std::string>();
  }
  return text;
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
    if (claims[i]["verdict"] == others[i]["verdict"] && !is_refused(claims[i])) ++same;
  }
  report["again"] = again;
  report["same"] = same;
  return report;
}

}  // namespace attnscale

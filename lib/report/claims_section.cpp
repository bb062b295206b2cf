// What the sweep was to decide, and whether it did, in the page.

#include <fmt/format.h>

#include "report/page.h"
#include "report/text.h"

namespace attnscale {
namespace {

std::string cell(const std::string& text, bool number = false) {
  return fmt::format("<td{}>{}</td>", number ? " class=\"n\"" : "", html_escape(text));
}

std::string interval_text(const Json& claim) {
  if (!claim.contains("estimate")) return "–";
  auto text = fmt::format("{:.4g}", claim["estimate"].get<double>());
  if (claim.contains("low"))
    text += fmt::format("  [{:.4g}, {:.4g}]", claim["low"].get<double>(), claim["high"].get<double>());
  return text;
}

std::string row_of(const Json& claim) {
  auto verdict = claim["verdict"].get<std::string>();
  if (claim.contains("more_seeds")) verdict += fmt::format(" ({} more seeds)", claim["more_seeds"].get<size_t>());
  for (const auto& note : claim["notes"]) verdict += "; " + note.get<std::string>();
  if (claim["diverged"] > 0) verdict += fmt::format("; {} diverged", counted(claim["diverged"].get<size_t>(), "run"));
  return "<tr>" + cell(claim["claim"].get<std::string>()) + cell(interval_text(claim), true) +
         cell(claim["expected"].get<std::string>()) + cell(std::to_string(claim["seeds"].size()), true) +
         cell(verdict) + "</tr>";
}

}  // namespace

std::string claims_section(const Sweep& sweep) {
  if (!sweep.claims.is_object() || sweep.claims["claims"].empty()) return "";
  std::string body;
  for (const auto& claim : sweep.claims["claims"]) body += row_of(claim);
  return fmt::format(
      "<section class=\"card\" id=\"claims\"><h2>Claims</h2><p>What the spec was to decide. Brackets hold intervals "
      "over "
      "seeds, wide enough for all claims together ({:g} %); a claim holds when the whole interval lies where the "
      "number "
      "is expected.</p><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Claims\"><table><caption>"
      "Claims</caption><thead><tr><th scope=\"col\">claim</th><th scope=\"col\" class=\"n\">number</th><th "
      "scope=\"col\">"
      "expected</th><th scope=\"col\" class=\"n\">seeds</th><th "
      "scope=\"col\">verdict</th></tr></thead><tbody>{}</tbody>"
      "</table></div></section>\n",
      100 * sweep.claims["level"].get<double>(), body);
}

}  // namespace attnscale

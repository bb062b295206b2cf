#include "report/page.h"

#include <fmt/format.h>

#include "report/text.h"
#include "report/vega_engine.h"
#include "report/verdict.h"

namespace attnscale {
namespace {

/// Scripts may run and draw, and that is all: the browser itself holds the page to needing no network.
const char* const kPolicy =
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:";

std::string figure_html(const Figure& figure, const std::map<std::string, std::string>& stills) {
  const auto still = stills.find(figure.id);
  const std::string alternative = html_escape(figure.title + ". " + figure.caption);
  std::string image;
  if (still != stills.end()) {
    image = fmt::format("<img class=\"still\" alt=\"{}\" src=\"data:image/svg+xml;base64,{}\">", alternative,
                        base64(still->second));
  }
  return fmt::format(
      "<section class=\"card\" id=\"{0}\"><h2>{1}</h2>\n<figure{2}><div class=\"live\" data-figure=\"{0}\" "
      "role=\"img\" "
      "aria-label=\"{3}\"></div>{4}<figcaption>{5}</figcaption></figure></section>\n",
      figure.id, html_escape(figure.title), image.empty() ? "" : " class=\"has-still\"", alternative, image,
      html_escape(figure.caption));
}

std::string header_html(const Sweep& sweep) {
  std::string text =
      fmt::format("<header><p class=\"kicker\">attnscale report</p><h1>{}</h1>", html_escape(sweep.name));
  if (const std::string about = text_at(sweep.spec, "description"); !about.empty()) {
    text += "<p class=\"about\">" + html_escape(about) + "</p>";
  }
  text += "<p class=\"verdict\">";
  for (const std::string& sentence : verdict(sweep)) text += html_escape(sentence) + " ";
  return text + "</p></header>\n";
}

std::string contents_html(const Figures& figures) {
  std::string links;
  for (const Figure& figure : figures.drawn)
    links += fmt::format("<a href=\"#{}\">{}</a>", figure.id, html_escape(figure.title));
  for (const auto& [id, title] :
       {std::pair{"trouble", "What went wrong"}, {"runs", "Runs"}, {"provenance", "Provenance"}}) {
    links += fmt::format("<a href=\"#{}\">{}</a>", id, title);
  }
  return "<nav aria-label=\"Contents\">" + links + "</nav>\n";
}

std::string missing_html(const Figures& figures) {
  if (figures.missing.empty()) return "";
  std::string items;
  for (const MissingFigure& missing : figures.missing) {
    items += fmt::format("<li><strong>{}:</strong> {}</li>", html_escape(missing.title), html_escape(missing.reason));
  }
  return "<section class=\"card quiet\" id=\"not-drawn\"><h2>Not drawn</h2><ul>" + items + "</ul></section>\n";
}

Json figure_data(const Figures& figures) {
  Json list = Json::array();
  for (const Figure& figure : figures.drawn) list.push_back({{"id", figure.id}, {"spec", figure.spec}});
  return {{"light", figure_theme(false)}, {"dark", figure_theme(true)}, {"figures", std::move(list)}};
}

std::string scripts_html(const Figures& figures) {
  if (figures.drawn.empty()) return fmt::format("<script>{}</script>\n", page_script());
  return fmt::format(
      "<script type=\"application/json\" id=\"figure-data\">{}</script>\n"
      "<script>{}</script>\n<script>{}</script>\n<script>{}</script>\n<script>{}</script>\n",
      script_json(figure_data(figures)), vega_script(), vega_lite_script(), vega_embed_script(), page_script());
}

}  // namespace

std::string report_page(const Sweep& sweep, const Figures& figures, const std::map<std::string, std::string>& stills) {
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>{} – attnscale report</title>\n"
      "<style>{}</style>\n<script>document.documentElement.classList.add('js')</script>\n</head>\n<body>\n<main>\n",
      kPolicy, html_escape(sweep.name), page_style());
  page += header_html(sweep);
  page += tiles_section(sweep);
  page += claims_section(sweep);
  page += contents_html(figures);
  for (const Figure& figure : figures.drawn) {
    page += figure_html(figure, stills);
    if (figure.id == "irreducible-loss") page += fits_section(sweep);
    if (figure.id == "variants") page += comparison_section(sweep);
  }
  page += missing_html(figures);
  page += trouble_section(sweep, sweep.notes);
  page += runs_section(sweep);
  page += provenance_section(sweep);
  page += fmt::format(
      "<details class=\"card quiet\"><summary>Licences of what this page carries</summary><pre>{}</pre></details>\n",
      [] {
        std::string lines;  // html_escape would join the notice's lines
        for (const char c : vega_notice()) {
          if (c == '\n') lines += '\n';
          else lines += html_escape(std::string_view(&c, 1));
        }
        return lines;
      }());
  page += "</main>\n" + scripts_html(figures) + "</body>\n</html>\n";
  return page;
}

}  // namespace attnscale

#include "report/report.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "core/files.h"
#include "report/figures.h"
#include "report/page.h"
#include "report/vega_engine.h"

namespace attnscale {
namespace {

/// Every figure as a file for a light ground, white behind it as papers want.
std::map<std::string, std::string> draw_stills(const Figures& figures, std::vector<std::string>& notes) {
  std::map<std::string, std::string> stills;
  if (figures.drawn.empty()) return stills;
  if (!VegaEngine::available()) {
    notes.push_back("No SVG files: " + VegaEngine::why_not());
    return stills;
  }
  Json config = figure_theme(false);
  config["background"] = "#ffffff";
  config["font"] = "Helvetica, Arial, sans-serif";
  VegaEngine engine;
  for (const Figure& figure : figures.drawn) {
    try {
      stills[figure.id] = engine.svg(figure.spec, config);
    } catch (const Error& error) {
      notes.push_back(fmt::format("figures/{}.svg was not made: {}", figure.id, error.what()));
    }
  }
  return stills;
}

/// A picture of an earlier report that this one does not have would be taken for a current one.
void remove_stale(const std::filesystem::path& folder, const Figures& figures,
                  const std::map<std::string, std::string>& stills) {
  std::vector<std::string> ids;
  for (const Figure& figure : figures.drawn) ids.push_back(figure.id);
  for (const MissingFigure& figure : figures.missing) ids.push_back(figure.id);
  for (const std::string& id : ids) {
    std::error_code ignored;  // it was not there
    if (!stills.count(id)) std::filesystem::remove(folder / (id + ".svg"), ignored);
  }
}

}  // namespace

ReportFiles write_report(const std::filesystem::path& sweep_folder) {
  const Sweep sweep = read_sweep(sweep_folder);
  const Figures figures = make_figures(sweep);
  ReportFiles files;
  files.notes = sweep.notes;
  const auto stills = draw_stills(figures, files.notes);
  const std::filesystem::path folder = sweep_folder / "figures";
  if (!stills.empty()) make_folder(folder);
  remove_stale(folder, figures, stills);
  for (const auto& [id, svg] : stills) {
    files.svgs.push_back(folder / (id + ".svg"));
    write_file_atomically(files.svgs.back(), svg);
  }
  for (const MissingFigure& missing : figures.missing)
    files.notes.push_back(missing.title + " is not drawn: " + missing.reason);
  files.html = sweep_folder / "report.html";
  write_file_atomically(files.html, report_page(sweep, figures, stills));
  return files;
}

}  // namespace attnscale

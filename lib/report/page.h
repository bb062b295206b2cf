#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "report/figures.h"

namespace attnscale {

/// The whole report as one HTML document that needs nothing from outside.
/// @param stills  figures as SVG, by id, for paper and for readers without scripts; may be empty
std::string report_page(const Sweep& sweep, const Figures& figures, const std::map<std::string, std::string>& stills);

/// Parts of the page, each a complete <section> (or empty when it has nothing to say).
std::string tiles_section(const Sweep& sweep);
std::string fits_section(const Sweep& sweep);
std::string comparison_section(const Sweep& sweep);
std::string claims_section(const Sweep& sweep);
std::string trouble_section(const Sweep& sweep, const std::vector<std::string>& notes);
std::string runs_section(const Sweep& sweep);
std::string provenance_section(const Sweep& sweep);

/// Style sheet and behaviour (drawing, theme, sorting) of the page.
std::string_view page_style();
std::string_view page_script();

}  // namespace attnscale

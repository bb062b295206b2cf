#pragma once

#include <string_view>

namespace attnscale {

/// What the Vega scripts expect of a browser or of Node and QuickJS lacks; run before them.
std::string_view vega_host_before();

/// Text widths, and `draw(spec, config)`, which leaves its SVG in `drawn` or its error in `trouble`; run after them.
std::string_view vega_host_after();

}  // namespace attnscale

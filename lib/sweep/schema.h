#pragma once

#include <string>

#include "core/json.h"

namespace attnscale {

/// JSON Schema (draft 2020-12) of a spec, from the same field lists that read it, so that editors
/// complete keys and mark mistakes.
Json spec_schema();

/// The option tables of the docs as Markdown, one section per group: `model`, `train`, `data`, every variant
/// and every source.
std::string options_markdown();

/// The variants as a Markdown table, by family.
std::string variants_markdown();

/// One line per family: its variants' names.
std::string families_markdown();

/// The sources as a Markdown table.
std::string sources_markdown();

}  // namespace attnscale

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// The text with control characters, ANSI escapes and direction overrides made visible as U+FFFD, so
/// that a name from a file can neither move a cursor nor reorder a line. Newlines become spaces.
std::string readable(std::string_view text);

/// `readable` text for HTML content and double-quoted attributes.
std::string html_escape(std::string_view text);

/// JSON for the inside of a <script> element: `<`, `>` and `&` are written as \u escapes, so no
/// value can close the element; bytes that are not UTF-8 become U+FFFD.
std::string script_json(const Json& value);

/// Base64 with padding (RFC 4648).
std::string base64(std::string_view bytes);

/// A loss in nats per token, four decimals; `–` when there is none.
std::string loss_text(std::optional<double> loss);

/// Shortest text that reads back to the same double; `12` for a whole number below 2^53.
std::string exact_text(double value);

/// `1 run`, `3 runs`
std::string counted(size_t count, std::string_view noun);

std::string joined(const std::vector<std::string>& parts, std::string_view separator);

}  // namespace attnscale

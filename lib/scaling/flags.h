#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// How much a flag takes away from a number.
enum class Severity {
  note,     ///< how to read it
  warning,  ///< it may be off
  error,    ///< it is not to be believed, or could not be had
};

/// A doubt about a fit, in words that tell what to run next.
struct Flag {
  std::string id;  ///< stable, for programs: `short_span_D`
  Severity severity = Severity::warning;
  std::string text;
};

using Flags = std::vector<Flag>;

const char* name_of(Severity severity);

/// [{"id", "severity", "text"}]
Json to_json(const Flags& flags);

/// The same doubt of several fits in one line: flags of one id are merged, the first text kept, the gravest first.
///
///   [{"id", "severity", "text", "in": ["L(N,D)", "L(N)"], "times"}]
///
/// Severity goes before the number of places. "in" names where it occurs.
class Doubts {
 public:
  /// @param flags  as `to_json` writes them  @param where  the fit, for "in"; empty: the table itself
  void add(const Json& flags, const std::string& where);
  Json list() const;

 private:
  Json list_ = Json::array();
};

/// All doubts of a fit_report: its own, those of its forms and of its IsoFLOP minima. @param prefix  of "in": `softmax
/// `
void add_doubts(const Json& report, const std::string& prefix, Doubts& doubts);

/// For a terminal, at most `lines` of them: `! warning: N spans only 3x: ... (L(N,D), L(N))`.
std::string doubts_text(const Json& doubts, size_t lines = 6);

}  // namespace attnscale

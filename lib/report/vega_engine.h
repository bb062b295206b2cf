#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/json.h"

namespace attnscale {

/// The Vega scripts that the page carries, and the notice that their licences ask for.
std::string_view vega_script();
std::string_view vega_lite_script();
std::string_view vega_embed_script();
std::string_view vega_notice();

/// Draws Vega-Lite specs as SVG inside this process, without a browser. Starting costs about 0.1 s,
/// a picture 0.05 to 0.5 s. Text is measured by Helvetica's widths.
class VegaEngine {
 public:
  /// False when the program was built without QuickJS; `why_not` then says how to change that.
  static bool available();
  static std::string why_not();

  /// @throws NumericsError if the scripts cannot be started, Error(usage) when not `available`
  VegaEngine();
  ~VegaEngine();

  /// A complete SVG document for `spec` under the Vega-Lite `config`.
  /// @throws NumericsError with the engine's message if the spec does not compile or takes over a minute
  std::string svg(const Json& spec, const Json& config);

 private:
  struct Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace attnscale

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// Who may end a run before its last step for what its evaluations show beside those of other runs.
class Referee {
 public:
  virtual ~Referee() = default;

  /// The rule as JSON. A run that was stopped early stays so only under the same rule.
  virtual const Json& rule() const = 0;

  /// Whether `decide` is to be asked after the evaluation of this step.
  virtual bool looks_at(int64_t step) const = 0;

  /// Asked again for the same step it says the same: a run that was killed in between comes back to it.
  /// @param evaluations  rows of the log up to this step, in order
  /// @return             what the result of a run that ends here says under `stopped`, with `step`, `loss`, `rule` and
  ///                     the reason in words as `message`; null for one that goes on
  virtual Json decide(int64_t step, const std::vector<Json>& evaluations) = 0;
};

}  // namespace attnscale

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sweep/spec.h"

namespace attnscale {

/// Lets several readings fail, and tells of all of them together, each line once.
class GatheredErrors {
 public:
  template <class Action>
  void gather(Action action) {
    try {
      action();
    } catch (const ConfigError& error) {
      add(error.what());
    }
  }
  void refuse() const;  ///< @throws ConfigError if any failed

 private:
  void add(const std::string& message);
  std::vector<std::string> lines_;
};

/// Keys of a spec that a group may have: what runs are made of. The others stand once, beside `groups`.
const std::vector<std::string>& group_keys();

/// Reads a spec with `groups`: name -> a spec's section, which lies above what stands beside `groups` (sweep/include.h
/// says how). In the document of the result each group holds everything that its runs are made of, `--set` too.
/// @param read_one  reads a spec without groups
/// @throws ConfigError with the problems of all groups
Spec read_groups(const JsonDocument& document, const std::vector<std::string>& assignments,
                 const std::function<Spec(JsonDocument, const std::vector<std::string>&)>& read_one);

}  // namespace attnscale

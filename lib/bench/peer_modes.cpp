#include "bench/peer_modes.h"

#include <algorithm>

namespace attnscale {

Json modes_beside(const std::vector<PeerMode>& modes, const Timing& ours, const char* unit) {
  Json list = Json::array();
  for (const auto& mode : modes)
    list.push_back({{"mode", mode.name}, {unit, mode.time.to_json()}, {"times_slower", times_slower(mode.time, ours)}});
  const auto best = std::min_element(modes.begin(), modes.end(), [](const PeerMode& a, const PeerMode& b) {
    return a.time.median() < b.time.median();
  });
  return {{"modes", std::move(list)}, {"best", best->name}};
}

}  // namespace attnscale

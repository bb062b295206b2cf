#include "train/device_graph.h"

#include <map>

#include "train/cuda_graph.h"

namespace attnscale {
namespace {

std::map<at::DeviceType, DeviceGraphMaker>& makers() {
#ifdef ATTNSCALE_CUDA_GRAPHS
  static std::map<at::DeviceType, DeviceGraphMaker> all = {{at::kCUDA, make_cuda_graph}};
#else
  static std::map<at::DeviceType, DeviceGraphMaker> all;
#endif
  return all;
}

}  // namespace

bool has_device_graphs(at::DeviceType device) { return makers().contains(device); }

std::unique_ptr<DeviceGraph> make_device_graph(at::DeviceType device) {
  const auto found = makers().find(device);
  return found == makers().end() ? nullptr : found->second();
}

void set_device_graphs(at::DeviceType device, DeviceGraphMaker maker) {
  if (maker) makers()[device] = std::move(maker);
  else makers().erase(device);
}

}  // namespace attnscale

#pragma once

#include <functional>
#include <memory>

#include <torch/types.h>

namespace attnscale {

/// Operators on an accelerator that are recorded once and from then on launched as one, without the host's work for
/// each: where a step is many small kernels, the host is what it waits for. What is launched again reads and writes the
/// same memory, and takes what numbers the host gave it then.
///
/// PyTorch 2.13 has a form of it that is the same for every device (at::accelerator::Graph), which CUDA does not fill
/// in yet; of this one CUDA does, where the program is built with a LibTorch for CUDA (cuda_graph.cpp).
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;

  /// Until `end`, what is asked of the current stream, which is not the device's first one, is recorded and not done.
  /// What it allocates comes from memory of the graph's own.
  virtual void begin() = 0;
  virtual void end() = 0;

  /// Does all of it, on the current stream.
  virtual void replay() = 0;
};

using DeviceGraphMaker = std::function<std::unique_ptr<DeviceGraph>()>;

/// Null where operators on this kind of device cannot be recorded by this program.
std::unique_ptr<DeviceGraph> make_device_graph(at::DeviceType device);

/// Whether that is not null.
bool has_device_graphs(at::DeviceType device);

/// For a kind of device that has none, such as one that a test makes up. @param maker  empty: none any more
void set_device_graphs(at::DeviceType device, DeviceGraphMaker maker);

}  // namespace attnscale

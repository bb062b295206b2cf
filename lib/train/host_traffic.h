#pragma once

#include <optional>
#include <string>

#include <ATen/record_function.h>

namespace attnscale {

/// While it lives, looks for operators that bring numbers from the host to a device or from a device to the host, on
/// any thread: what asks for them cannot be part of a DeviceGraph. Those that it knows are copies between devices,
/// reading a number (`item`) and finding places (`nonzero`, which many others are made of).
class HostTraffic {
 public:
  HostTraffic();
  ~HostTraffic();
  HostTraffic(const HostTraffic&) = delete;
  HostTraffic& operator=(const HostTraffic&) = delete;

  /// The first: `aten::copy_ from cpu to cuda`.
  static std::optional<std::string> found();

 private:
  at::CallbackHandle handle_;
};

}  // namespace attnscale

#include "train/host_traffic.h"

#include <mutex>
#include <set>

#include <fmt/format.h>
#include <torch/types.h>

namespace attnscale {
namespace {

std::mutex mutex;
std::optional<std::string> first;  // of the one that lives

std::string name_of(const at::Tensor& tensor) {
  return c10::DeviceTypeName(tensor.device().type(), /*lower_case=*/true);
}

std::optional<std::string> traffic_of(const std::string& name, c10::ArrayRef<const c10::IValue> inputs) {
  static const std::set<std::string> to_host = {"aten::_local_scalar_dense", "aten::nonzero"};
  const auto tensor = [&](size_t i) {
    return inputs.size() > i && inputs[i].isTensor() ? inputs[i].toTensor() : at::Tensor();
  };
  const auto one = tensor(0), other = tensor(1);
  if (to_host.contains(name) && one.defined() && !one.is_cpu())
    return fmt::format("{} from {} to cpu", name, name_of(one));
  if (name == "aten::copy_" && one.defined() && other.defined() && one.is_cpu() != other.is_cpu())
    return fmt::format("{} from {} to {}", name, name_of(other), name_of(one));
  return std::nullopt;
}

std::unique_ptr<at::ObserverContext> on_enter(const at::RecordFunction& function) {
  if (auto traffic = traffic_of(function.name(), function.inputs())) {
    const std::lock_guard guard(mutex);
    if (!first) first = std::move(traffic);
  }
  return nullptr;
}

}  // namespace

HostTraffic::HostTraffic() {
  {
    const std::lock_guard guard(mutex);
    first.reset();
  }
  handle_ =
      at::addGlobalCallback(at::RecordFunctionCallback(on_enter).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

HostTraffic::~HostTraffic() { at::removeCallback(handle_); }

std::optional<std::string> HostTraffic::found() {
  const std::lock_guard guard(mutex);
  return first;
}

}  // namespace attnscale

#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include "tensor/kernels/kernels.h"
#include "train/device_graph.h"

namespace attnscale::rehearsal {

/// A DeviceGraph for the CPU that a GPU is not needed to try a CapturedStep with. It has of CUDA's what can go wrong:
/// between `begin` and `end` nothing is done, for what is written is put back; a replay does the operators again on the
/// same memory with the numbers that they were given, so that what the host has computed since is not seen; what asks
/// the host for a number is refused; and so is memory that no operator has written, as a list of the host's is.
/// Operators are recorded below autograd, by a fallback for a dispatch key that PyTorch keeps for such uses.
constexpr auto key = c10::DispatchKey::Fake;

struct Recorded {
  c10::OperatorHandle op;
  std::vector<c10::IValue> inputs;
  std::vector<c10::IValue> outputs;
};

struct Counts {
  int recordings = 0, replays = 0;
};

inline Counts& counts() {
  static Counts all;
  return all;
}

template <class Visit>
void for_each_tensor(const c10::IValue& value, const Visit& visit) {
  if (value.isTensor() && value.toTensor().defined()) visit(value.toTensor());
  else if (value.isTensorList())
    for (const at::Tensor& tensor : value.toTensorVector()) visit(tensor);
  else if (value.isList())
    for (const c10::IValue& item : value.toListRef()) for_each_tensor(item, visit);
}

inline const void* memory_of(const at::Tensor& tensor) { return tensor.storage().unsafeGetStorageImpl(); }

class Graph;
inline Graph*& recording() {
  static Graph* graph = nullptr;
  return graph;
}

class Graph final : public DeviceGraph {
 public:
  void begin() override {
    ++counts().recordings;
    generator_ = at::Generator(at::detail::getDefaultCPUGenerator()).get_state();
    include_.emplace(key);
    recording() = this;
  }

  void end() override {
    recording() = nullptr;
    include_.reset();
    const torch::NoGradGuard no_gradients;
    for (auto& [tensor, before] : written_) tensor.copy_(before);
    at::Generator(at::detail::getDefaultCPUGenerator()).set_state(generator_);
  }

  void replay() override {
    ++counts().replays;
    const c10::InferenceMode no_inference(false);
    const at::AutoDispatchBelowAutograd below;
    for (const auto& [op, inputs, outputs] : all_) {
      if (is_allocation(op)) continue;
      torch::jit::Stack stack(inputs.begin(), inputs.end());
      op.callBoxed(stack);
      for (size_t i = 0; i < outputs.size(); ++i) put_back(outputs[i], stack[i]);
    }
  }

  void record(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
    const auto& arguments = op.schema().arguments();
    std::vector<c10::IValue> inputs(stack->end() - static_cast<ptrdiff_t>(arguments.size()), stack->end());
    const auto name = op.schema().name();
    if (name == "aten::_local_scalar_dense" || name == "aten::nonzero")
      throw std::runtime_error(name + ": not permitted while operators are recorded");
    std::set<const void*> given;
    for (size_t i = 0; i < arguments.size(); ++i) {
      look_at(arguments[i], inputs[i], name);
      for_each_tensor(inputs[i], [&](const at::Tensor& tensor) { given.insert(memory_of(tensor)); });
    }
    {
      const c10::impl::ExcludeDispatchKeyGuard below(key);
      op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, key), stack);
    }
    std::vector<c10::IValue> outputs(stack->end() - static_cast<ptrdiff_t>(op.schema().returns().size()), stack->end());
    for (const auto& output : outputs)
      for_each_tensor(output, [&](const at::Tensor& tensor) {
        if (is_allocation(op)) empty_.insert(memory_of(tensor));
        if (!given.contains(memory_of(tensor))) own_.insert(memory_of(tensor));
      });
    all_.push_back({op, std::move(inputs), std::move(outputs)});
  }

 private:
  static bool is_allocation(const c10::OperatorHandle& op) {
    const auto& name = op.schema().name();
    return name.starts_with("aten::empty") || name.starts_with("aten::new_empty");
  }

  /// `Tensor(a!)`, and `Tensor(a!)[]`, which says it of what the list holds.
  static bool is_written(const c10::AliasInfo& alias) {
    return alias.isWrite() || std::any_of(alias.containedTypes().begin(), alias.containedTypes().end(), is_written);
  }

  void look_at(const c10::Argument& argument, const c10::IValue& value, const std::string& name) {
    const bool writes = argument.alias_info() != nullptr && is_written(*argument.alias_info());
    for_each_tensor(value, [&](const at::Tensor& tensor) {
      if (writes) {
        empty_.erase(memory_of(tensor));
        if (!own_.contains(memory_of(tensor))) keep(tensor);
      } else if (empty_.contains(memory_of(tensor)) && argument.alias_info() == nullptr) {
        throw std::runtime_error(name + ": reads what the host has written while operators are recorded");
      }
    });
  }

  void keep(const at::Tensor& tensor) {
    for (const auto& [known, before] : written_)
      if (memory_of(known) == memory_of(tensor)) return;  // no step writes parts of what it finds
    const c10::impl::ExcludeDispatchKeyGuard below(key);
    const torch::NoGradGuard no_gradients;
    written_.emplace_back(tensor.detach(), tensor.detach().clone());
  }

  static void put_back(const c10::IValue& recorded, const c10::IValue& anew) {
    std::vector<at::Tensor> from;
    for_each_tensor(anew, [&](const at::Tensor& tensor) { from.push_back(tensor); });
    size_t i = 0;
    for_each_tensor(recorded, [&](const at::Tensor& tensor) {
      if (memory_of(tensor) != memory_of(from.at(i))) tensor.copy_(from[i]);
      ++i;
    });
  }

  std::vector<Recorded> all_;
  std::vector<std::pair<at::Tensor, at::Tensor>> written_;  // that was there before, and what it was
  std::set<const void*> own_, empty_;                       // storages made here; of these, not written yet
  at::Tensor generator_;
  std::optional<c10::impl::IncludeDispatchKeyGuard> include_;
};

inline void record(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  recording()->record(op, keys, stack);
}

/// While it lives the CPU is an accelerator with graphs, and steps run on LibTorch's operators, as on a GPU.
class OnCpu {
 public:
  OnCpu() {
    static const auto fallback = [] {
      auto library = std::make_unique<torch::Library>(torch::Library::IMPL, "_", std::make_optional(key), __FILE__,
                                                      static_cast<uint32_t>(__LINE__));
      library->fallback(torch::CppFunction::makeFromBoxedFunction<&record>());
      return library;
    }();
    set_kernels(false);
    counts() = {};
    set_device_graphs(at::kCPU, [] { return std::make_unique<Graph>(); });
  }
  ~OnCpu() { set_device_graphs(at::kCPU, {}); }
  OnCpu(const OnCpu&) = delete;
  OnCpu& operator=(const OnCpu&) = delete;

 private:
  const KernelsAsBefore kernels_;
};

}  // namespace attnscale::rehearsal

#include "tensor/flop_counter.h"

#include <mutex>

#include <ATen/record_function.h>
#include <torch/types.h>

namespace attnscale {
namespace {

std::mutex mutex;
std::map<std::string, double> counts;

double product(at::IntArrayRef sizes) {
  double result = 1;
  for (const auto size : sizes) result *= static_cast<double>(size);
  return result;
}

const at::Tensor& tensor(c10::ArrayRef<const c10::IValue> inputs, size_t i) { return inputs[i].toTensor(); }

/// [.., M, K] x [.., K, N]
double matmul_flops(const at::Tensor& a, const at::Tensor& b) {
  return 2 * product(a.sizes()) * static_cast<double>(b.size(-1));
}

/// Full square: scores and weighted values, for query [B, H, T, D], key [B, H, S, D], value [B, H, S, E].
double attention_flops(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  const double rows = product(query.sizes()) / static_cast<double>(query.size(-1));
  return 2 * rows * static_cast<double>(key.size(-2)) * static_cast<double>(query.size(-1) + value.size(-1));
}

double flops_of(const std::string& name, c10::ArrayRef<const c10::IValue> inputs) {
  if (name == "aten::mm" || name == "aten::bmm") return matmul_flops(tensor(inputs, 0), tensor(inputs, 1));
  if (name == "aten::addmm" || name == "aten::baddbmm" || name == "aten::_addmm_activation")
    return matmul_flops(tensor(inputs, 1), tensor(inputs, 2));
  if (name == "aten::mv" || name == "aten::dot") return 2 * product(tensor(inputs, 0).sizes());
  if (name == "aten::addmv") return 2 * product(tensor(inputs, 1).sizes());
  if (name == "aten::_scaled_dot_product_flash_attention_for_cpu" ||
      name == "aten::_scaled_dot_product_flash_attention" || name == "aten::_scaled_dot_product_efficient_attention" ||
      name == "aten::_scaled_dot_product_cudnn_attention")
    return attention_flops(tensor(inputs, 0), tensor(inputs, 1), tensor(inputs, 2));
  // Backward: scores again, and four products for the gradients of value, weights, query and key.
  if (name == "aten::_scaled_dot_product_flash_attention_for_cpu_backward" ||
      name == "aten::_scaled_dot_product_flash_attention_backward" ||
      name == "aten::_scaled_dot_product_efficient_attention_backward" ||
      name == "aten::_scaled_dot_product_cudnn_attention_backward")
    return 2.5 * attention_flops(tensor(inputs, 1), tensor(inputs, 2), tensor(inputs, 3));
  return 0;
}

std::unique_ptr<at::ObserverContext> on_operator(const at::RecordFunction& function) {
  const std::string name = function.name();
  if (name == "aten::convolution") throw std::runtime_error("FlopCounter: convolutions are not counted yet");
  const double flops = flops_of(name, function.inputs());
  if (flops > 0) {
    const std::lock_guard guard(mutex);
    counts[name] += flops;
  }
  return nullptr;
}

}  // namespace

FlopCounter::FlopCounter() {
  {
    const std::lock_guard guard(mutex);
    counts.clear();
  }
  handle_ = at::addGlobalCallback(
      at::RecordFunctionCallback(on_operator).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

FlopCounter::~FlopCounter() { at::removeCallback(handle_); }

std::map<std::string, double> FlopCounter::by_operator() const {
  const std::lock_guard guard(mutex);
  return counts;
}

double FlopCounter::total() const {
  double sum = 0;
  for (const auto& [name, flops] : by_operator()) sum += flops;
  return sum;
}

}  // namespace attnscale

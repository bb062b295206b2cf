#include "tensor/flop_counter.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>

#include <ATen/record_function.h>
#include <torch/types.h>

namespace attnscale {
namespace {

using Arguments = c10::ArrayRef<const c10::IValue>;

std::mutex mutex;
std::map<std::string, double> counts;
double behind_masks = 0;
std::atomic<int> counters = 0;
thread_local int counted_operators_open = 0;

double product(at::IntArrayRef sizes) {
  double result = 1;
  for (const auto size : sizes) result *= static_cast<double>(size);
  return result;
}

/// [.., M, K] x [.., K, N]
double matmul_flops(const at::Tensor& a, const at::Tensor& b) {
  return 2 * product(a.sizes()) * static_cast<double>(b.size(-1));
}

/// Full square: scores and weighted values, for query [B, H, T, D], key [B, G, S, D], value [B, G, S, E].
double attention_flops(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  const double rows = product(query.sizes()) / static_cast<double>(query.size(-1));
  return 2 * rows * static_cast<double>(key.size(-2)) * static_cast<double>(query.size(-1) + value.size(-1));
}

/// Every weight [O, C / groups, kernel..] meets every output place of every batch row once;
/// transposed ([C, O / groups, kernel..]): every input place.
double convolution_flops(const at::Tensor& weight, int64_t batch, at::IntArrayRef places) {
  return 2 * static_cast<double>(batch) * product(places) * product(weight.sizes());
}

/// convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
double forward_convolution_flops(Arguments inputs) {
  const auto& input = inputs[0].toTensor();   // [B, C, places..]
  const auto& weight = inputs[1].toTensor();  // [O, C / groups, kernel..]
  std::vector<int64_t> places(input.sizes().begin() + 2, input.sizes().end());
  if (const bool transposed = inputs[6].toBool(); !transposed) {
    const auto stride = inputs[3].toIntVector(), padding = inputs[4].toIntVector(), dilation = inputs[5].toIntVector();
    const auto of = [](const std::vector<int64_t>& list, size_t i) { return list.size() == 1 ? list[0] : list[i]; };
    for (size_t i = 0; i < places.size(); ++i) {
      const int64_t reach = of(dilation, i) * (weight.size(static_cast<int64_t>(i) + 2) - 1);
      places[i] = (places[i] + 2 * of(padding, i) - reach - 1) / of(stride, i) + 1;
    }
  }
  return convolution_flops(weight, input.size(0), places);
}

/// convolution_backward(grad_output, input, weight, bias_sizes, stride, padding, dilation, transposed,
/// output_padding, groups, output_mask): as much as the forward pass for each of the gradients of
/// input and weight that is asked for.
double backward_convolution_flops(Arguments inputs) {
  const auto& gradient = inputs[0].toTensor();
  const auto& input = inputs[1].toTensor();
  const auto& over = inputs[7].toBool() ? input : gradient;
  const auto wanted = inputs[10].toBoolList();
  return (wanted.get(0) + wanted.get(1)) *
         convolution_flops(inputs[2].toTensor(), input.size(0), over.sizes().slice(2));
}

double flops_of(const std::string& name, Arguments inputs) {
  static const std::set<std::string> attention = {
      "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_flash_attention",
      "aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_cudnn_attention",
      "aten::_scaled_dot_product_fused_attention_overrideable"};
  static const std::set<std::string> attention_backward = [] {
    std::set<std::string> names;
    for (const auto& forward : attention) names.insert(forward + "_backward");
    return names;
  }();
  const auto tensor = [&](size_t i) -> const at::Tensor& { return inputs[i].toTensor(); };

  if (name == "aten::mm" || name == "aten::bmm") return matmul_flops(tensor(0), tensor(1));
  if (name == "aten::addmm" || name == "aten::baddbmm" || name == "aten::addbmm" || name == "aten::_addmm_activation")
    return matmul_flops(tensor(1), tensor(2));
  if (name == "aten::mv" || name == "aten::dot") return 2 * product(tensor(0).sizes());
  if (name == "aten::addmv") return 2 * product(tensor(1).sizes());
  if (name == "aten::convolution") return forward_convolution_flops(inputs);
  if (name == "aten::convolution_backward") return backward_convolution_flops(inputs);
  if (attention.contains(name)) return attention_flops(tensor(0), tensor(1), tensor(2));
  // Scores again, and four products for the gradients of value, weights, query and key.
  if (attention_backward.contains(name)) return 2.5 * attention_flops(tensor(1), tensor(2), tensor(3));
  return 0;
}

/// The share of an attention's square that its causal mask hides: query i of T, from 0 on, sees min(i + 1, S) of S
/// keys.
double hidden_share(const at::RecordFunction& function, const std::string& name) {
  const auto schema = name.starts_with("aten::_scaled_dot_product_") ? function.operator_schema() : std::nullopt;
  const auto causal = schema ? schema->argumentIndexWithName("is_causal") : std::nullopt;
  const auto inputs = function.inputs();
  if (!causal || !inputs[static_cast<size_t>(*causal)].toBool()) return 0;
  const size_t query = name.ends_with("_backward") ? 1 : 0;  // after the gradient of the output
  const auto queries = static_cast<double>(inputs[query].toTensor().size(-2)),
             keys = static_cast<double>(inputs[query + 1].toTensor().size(-2)), corner = std::min(queries, keys);
  return 1 - (corner * (corner + 1) / 2 + (queries - corner) * keys) / (queries * keys);
}

/// Stands for a counted operator while it runs, so that what it calls is not counted again.
struct Counted : at::ObserverContext {};

std::unique_ptr<at::ObserverContext> on_enter(const at::RecordFunction& function) {
  if (counted_operators_open > 0) return nullptr;
  const std::string name = function.name();
  const double flops = flops_of(name, function.inputs());
  if (flops == 0) return nullptr;
  ++counted_operators_open;
  const double hidden = flops * hidden_share(function, name);
  const std::lock_guard guard(mutex);
  counts[name] += flops;
  behind_masks += hidden;
  return std::make_unique<Counted>();
}

void on_exit(const at::RecordFunction&, at::ObserverContext* context) {
  if (context) --counted_operators_open;
}

}  // namespace

FlopCounter::FlopCounter() {
  {
    const std::lock_guard guard(mutex);
    counts.clear();
    behind_masks = 0;
  }
  ++counters;
  handle_ = at::addGlobalCallback(
      at::RecordFunctionCallback(on_enter, on_exit).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

FlopCounter::~FlopCounter() {
  at::removeCallback(handle_);
  --counters;
}

void count_flops(const char* operation, double flops) {
  if (counters == 0 || flops == 0) return;
  const std::lock_guard guard(mutex);
  counts[operation] += flops;
}

std::map<std::string, double> FlopCounter::by_operator() const {
  const std::lock_guard guard(mutex);
  return counts;
}

double FlopCounter::behind_causal_masks() const {
  const std::lock_guard guard(mutex);
  return behind_masks;
}

double FlopCounter::total() const {
  double sum = 0;
  for (const auto& [name, flops] : by_operator()) sum += flops;
  return sum;
}

}  // namespace attnscale

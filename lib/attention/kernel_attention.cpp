#include "attention/kernel_attention.h"

#include <ATen/ops/addcmul.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include "tensor/full_precision.h"
#include "tensor/kernels/recurrence_kernel.h"

namespace attnscale {
namespace {

/// [.., E] -> [.., E + 1], in the dtype of the sums
Tensor with_column_of_ones(const Tensor& value) {
  return at::constant_pad_nd(value.to(accumulation_type(value.scalar_type())), {0, 1}, 1);
}

}  // namespace

Tensor KernelAttention::forward(const Inputs& in) {
  const FullPrecision sums_stay_float32;
  checked_sizes(shape_.name, in, geometry_, geometry_.causal);
  if (auto made = forward_by_kernel(in); made.defined()) return made;
  const auto x = features(in, nullptr);
  const auto value = with_column_of_ones(in.value);
  Tensor sums;  // [B, H, T, E + 1]
  if (!geometry_.causal) sums = all_sums(x.query, x.key, value);
  else if (!x.log_decay.defined()) sums = causal_sums(x.query, x.key, value, {}, shape_.chunk_length);
  else sums = scalar_decay(x.query, x.key, value, x.log_decay, {.chunk_length = shape_.chunk_length}).outputs;
  return divided(sums, in.value.scalar_type());
}

Tensor KernelAttention::forward_by_kernel(const Inputs& in) {
  const auto type = in.value.scalar_type();
  if (!geometry_.causal || !recurrence_dtype(type, {in.query, in.key, in.value})) return {};
  const auto fused = in.key_padding.defined() ? std::nullopt : fused_map();
  const auto x = fused ? Features{in.query, in.key} : features(in, nullptr);
  const bool projects = fused && fused->projection.defined();
  const CallSizes sizes{in.query.size(0), in.query.size(1), in.key.size(1),       in.query.size(2),
                        in.key.size(2),   shape_.features,  in.value.size(3) + 1};
  const auto cost = projects || x.log_decay.defined() ? scalar_decay_cost(sizes, sizes.kv_heads, shape_.chunk_length)
                                                      : causal_sums_cost(sizes, shape_.chunk_length);
  RecurrenceCall call{.dtype = type,
                      .output = type,
                      .chunk_length = shape_.chunk_length,
                      .epsilon = shape_.epsilon,
                      .floor = shape_.floor,
                      .flops = cost.flops};
  if (fused) call.map = fused->map, call.offset = fused->offset;
  if (projects) {
    call.projection = fused->projection.to(at::kFloat).contiguous();
    call.flops += static_cast<double>(sizes.batch * (sizes.heads + sizes.kv_heads) * sizes.queries) * shape_.map_flops;
  }
  return recurrence_kernel(x.query, x.key, in.value, x.log_decay, {}, call);
}

State KernelAttention::new_state(int64_t batch, torch::TensorOptions options) const {
  if (!geometry_.causal) return Attention::new_state(batch, options);
  const auto type = accumulation_type(c10::typeMetaToScalarType(options.dtype()));
  return {.tensors = {{"sums", at::zeros({batch, geometry_.num_kv_heads, shape_.features, geometry_.value_dim + 1},
                                         options.dtype(type))}}};
}

Tensor KernelAttention::decode(const Inputs& in, State& state) {
  const FullPrecision sums_stay_float32;
  const auto sizes = checked_sizes(shape_.name, in, geometry_, true);
  const auto x = features(in, &state);
  const auto value = with_column_of_ones(in.value);
  auto& carried = state.tensors.at("sums");
  Tensor sums;
  if (x.log_decay.defined()) {
    const ChunkedCall call{.initial = carried, .chunk_length = shape_.chunk_length, .with_state = true};
    auto done = scalar_decay(x.query, x.key, value, x.log_decay, call);
    sums = done.outputs;
    carried = done.state;
  } else if (sizes.queries == 1) {  // the state behind the position, read once
    const int64_t groups = x.key.size(1), shared = x.query.size(1) / groups;
    carried = at::addcmul(carried, x.key.mT(), value);  // [B, G, F, E + 1]
    sums = at::matmul(x.query.reshape({x.query.size(0), groups, shared, -1}), carried)
               .reshape({x.query.size(0), groups * shared, 1, -1});
  } else {
    sums = causal_sums(x.query, x.key, value, carried, shape_.chunk_length);
    carried = carried + at::matmul(x.key.mT(), value);
  }
  state.length += sizes.queries;
  return divided(sums, in.value.scalar_type());
}

KernelAttention::Features KernelAttention::features(const Inputs& in, State* state) {
  const auto type = accumulation_type(in.value.scalar_type());
  const int64_t first = state ? state->length : 0;
  auto key = key_features(in.key.to(type), first);
  if (in.key_padding.defined()) key = key * per_key(in.key_padding);
  return {query_features(in.query.to(type), first), key};
}

Tensor KernelAttention::divided(const Tensor& sums, torch::ScalarType type) const {
  const int64_t width = sums.size(-1) - 1;
  auto total = sums.narrow(-1, width, 1) + shape_.epsilon;
  if (shape_.floor > 0) total = total.clamp_min(shape_.floor);
  return (sums.narrow(-1, 0, width) / total).to(type);
}

Cost KernelAttention::cost_of(const Geometry& geometry, const Sizes& sizes, int64_t features, int64_t chunk_length,
                              double map_flops, bool decays) {
  const double batch = sizes.batch, f = features, e = geometry.value_dim;
  const double query_rows = batch * geometry.num_heads * sizes.queries;
  const double key_rows = batch * geometry.num_kv_heads * sizes.keys;
  const CallSizes call{sizes.batch, geometry.num_heads, geometry.num_kv_heads, sizes.queries,
                       sizes.keys,  features,           geometry.value_dim + 1};
  auto engine = all_sums_cost(call);
  if (geometry.causal)
    engine = decays ? scalar_decay_cost(call, call.kv_heads, chunk_length) : causal_sums_cost(call, chunk_length);
  const double mapping = (query_rows + key_rows) * map_flops;
  const double kept = query_rows * (2 * f + 2 * e + 1) + key_rows * (2 * f + e + 1) + engine.kept;
  return {.algorithmic_flops = 2 * (key_rows * f * e + query_rows * f * (e + 1)) + mapping,
          .executed_flops = engine.flops + mapping,
          .activation_bytes = static_cast<int64_t>(float_bytes * kept),
          .state_bytes = float_bytes * sizes.batch * geometry.num_kv_heads * features * (geometry.value_dim + 1)};
}

}  // namespace attnscale

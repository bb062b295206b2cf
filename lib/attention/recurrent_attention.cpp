#include "attention/recurrent_attention.h"

#include <cmath>

#include <ATen/ops/empty.h>
#include <ATen/ops/log.h>
#include <ATen/ops/zeros.h>

#include "tensor/full_precision.h"

namespace attnscale {
namespace {

Inputs inputs_in_dtype(const Inputs& in, torch::ScalarType type) {
  Inputs result{.query = in.query.to(type), .key = in.key.to(type), .value = in.value.to(type)};
  for (const auto& [name, gate] : in.gates) result.gates[name] = gate.to(type);
  result.key_padding = in.key_padding;
  return result;
}

}  // namespace

Tensor RecurrentAttention::forward(const Inputs& in) {
  const FullPrecision sums_stay_float32;
  checked_sizes(name_, in, geometry_, true);
  return run(in, {.chunk_length = chunk_length_, .products = in.value.scalar_type()}).outputs;
}

State RecurrentAttention::new_state(int64_t batch, torch::TensorOptions options) const {
  const auto type = accumulation_type(c10::typeMetaToScalarType(options.dtype()));
  return {.tensors = {{"state", at::zeros({batch, geometry_.num_heads, geometry_.head_dim, geometry_.value_dim},
                                          options.dtype(type))}}};
}

Tensor RecurrentAttention::decode(const Inputs& in, State& state) {
  const FullPrecision sums_stay_float32;
  const auto sizes = checked_sizes(name_, in, geometry_, true);
  auto& carried = state.tensors.at("state");
  const auto result = run(in, {.initial = carried, .chunk_length = chunk_length_, .with_state = true});
  carried = result.state;
  state.length += sizes.queries;
  return result.outputs;
}

Recurred RecurrentAttention::run(const Inputs& in, const ChunkedCall& call) const {
  const auto wide = inputs_in_dtype(in, accumulation_type(in.value.scalar_type()));
  auto x = recurrence(wide);
  if (in.key_padding.defined()) {
    x.key = x.key * per_key(in.key_padding);
    const auto real = in.key_padding.unsqueeze(1);  // [B, 1, T]
    if (x.log_decay.defined()) x.log_decay = x.log_decay * (x.log_decay.dim() == 4 ? real.unsqueeze(-1) : real);
  }
  Recurred result;
  if (x.beta.defined()) result = delta_rule(x.query, x.key, x.value, x.beta, x.log_decay, call);
  else if (x.log_decay.dim() == 4) result = diagonal_decay(x.query, x.key, x.value, x.log_decay, call);
  else result = scalar_decay(x.query, x.key, x.value, x.log_decay, call);
  result.outputs = finished(wide, x, result.outputs).to(in.value.scalar_type());
  return result;
}

Cost RecurrentAttention::cost_of(Engine engine, const Geometry& geometry, const Sizes& sizes, int64_t chunk_length) {
  const CallSizes call{sizes.batch,   geometry.num_heads, geometry.num_heads, sizes.queries,
                       sizes.queries, geometry.head_dim,  geometry.value_dim};
  const double d = geometry.head_dim, e = geometry.value_dim;
  const double rows = static_cast<double>(sizes.batch) * geometry.num_heads * sizes.queries;
  const auto cost = engine == Engine::scalar     ? scalar_decay_cost(call, geometry.num_heads, chunk_length)
                    : engine == Engine::diagonal ? diagonal_decay_cost(call, chunk_length)
                                                 : delta_rule_cost(call, chunk_length);
  // A step writes and reads the state; the delta rule also reads what the key finds.
  const double products = engine == Engine::delta ? 3 : 2;
  return {.algorithmic_flops = 2 * products * rows * d * e,
          .executed_flops = cost.flops,
          .activation_bytes = static_cast<int64_t>(float_bytes * (cost.kept + rows * (2 * d + e))),
          .state_bytes = float_bytes * sizes.batch * geometry.num_heads * geometry.head_dim * geometry.value_dim};
}

Tensor initial_log_rate(int64_t heads) { return at::empty({heads}).uniform_(1, 16).log(); }

Tensor initial_step_bias(int64_t heads) {
  const auto step = at::empty({heads}).uniform_(std::log(0.001), std::log(0.1)).exp();
  return step + at::log(-at::expm1(-step));  // the inverse of softplus
}

}  // namespace attnscale

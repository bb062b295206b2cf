#include "tensor/kernels/recurrence_kernel.h"

#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>

#include "tensor/empty.h"
#include "tensor/flop_counter.h"
#include "tensor/graph_node.h"
#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/kernel_shapes.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/recurrence_walk.h"

namespace attnscale {
namespace {

/// Calls work(walk, b, g) for each batch row and state.
template <class T, class Work>
void for_each_state(const RecurrenceSizes& sizes, const RecurrenceCall& call, RecurrenceTensors& tensors,
                    RecurrenceGradients* gradients, const Work& work) {
  const auto projection = call.projection.defined() ? Projection<T>(call.projection) : Projection<T>();
  const int64_t bytes = RecurrenceWalk<T>(sizes, call, projection, tensors, gradients, Arena()).bytes();
  at::parallel_for(0, sizes.batch * sizes.groups, 1, [&](int64_t begin, int64_t end) {
    const TileUse use;
    RecurrenceWalk<T> walk(sizes, call, projection, tensors, gradients,
                           Arena(reinterpret_cast<char*>(scratch(1, bytes / 4))));
    for (int64_t i = begin; i < end; ++i) work(walk, i / sizes.groups, i % sizes.groups);
  });
}

template <class Work>
void for_each_state_of(at::ScalarType dtype, const RecurrenceSizes& sizes, const RecurrenceCall& call,
                       RecurrenceTensors& tensors, RecurrenceGradients* gradients, const Work& work) {
  if (dtype == at::kFloat) for_each_state<float>(sizes, call, tensors, gradients, work);
  else for_each_state<at::BFloat16>(sizes, call, tensors, gradients, work);
}

Tensor as_float(const Tensor& x) { return x.defined() ? x.to(at::kFloat).contiguous() : x; }

class RecurrenceKernel : public GraphNode<RecurrenceKernel> {
 public:
  Tensor forward(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& log_decay,
                 const Tensor& beta, const RecurrenceCall& call) {
    RECORD_FUNCTION("attnscale::recurrence", std::vector<c10::IValue>());
    call_ = call;
    if (log_decay.defined()) decay_type_ = log_decay.scalar_type();
    if (beta.defined()) beta_type_ = beta.scalar_type();
    RecurrenceTensors x{with_dense_rows(query),
                        with_dense_rows(key),
                        with_dense_rows(value),
                        as_float(log_decay),
                        as_float(beta),
                        {},
                        {},
                        {},
                        {}};
    const RecurrenceSizes sizes(x, call);
    x.output = by_positions(sizes.batch, sizes.heads, sizes.positions, sizes.values, call.output);
    if (recorded()) x.states = empty_on_cpu({sizes.batch, sizes.groups, sizes.chunks, sizes.state_size()}, at::kFloat);
    if (sizes.divided) x.inverses = empty_on_cpu({sizes.batch, sizes.heads, sizes.positions}, at::kFloat);
    if (call.projection.defined()) x.largest = empty_on_cpu({sizes.batch, sizes.groups, sizes.positions}, at::kFloat);
    for_each_state_of(call.dtype, sizes, call, x, nullptr,
                      [&](auto& walk, int64_t b, int64_t g) { walk.forward(b, g, recorded()); });
    count_flops("attnscale::recurrence", call.flops);
    keep({x.query, x.key, x.value, x.log_decay, x.beta, x.output, x.states, x.inverses, x.largest});
    return x.output;
  }

  variable_list backward(const variable_list& upstream) {
    RECORD_FUNCTION("attnscale::recurrence_backward", std::vector<c10::IValue>());
    refuse_second_derivative("recurrence_kernel");
    const auto saved = kept();
    RecurrenceTensors x{saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], saved[7], saved[8]};
    const RecurrenceSizes s(x, call_);
    const auto parts = empty_parts({x.query, x.key, x.value});
    RecurrenceGradients made{parts[0], parts[1], parts[2], {}, {}};
    if (x.log_decay.defined() && wants(3)) made.log_decay = at::empty_like(x.log_decay);
    if (x.beta.defined()) made.beta = at::empty_like(x.beta);
    const auto rows = with_dense_rows(upstream[0]);
    for_each_state_of(call_.dtype, s, call_, x, &made,
                      [&](auto& walk, int64_t b, int64_t g) { walk.backward(rows, b, g); });
    count_flops("attnscale::recurrence_backward", 2 * call_.flops);
    const auto typed = [](const Tensor& of, at::ScalarType type) { return of.defined() ? of.to(type) : of; };
    return {made.query, made.key, made.value, typed(made.log_decay, decay_type_), typed(made.beta, beta_type_)};
  }

 private:
  RecurrenceCall call_;
  at::ScalarType decay_type_ = at::kFloat, beta_type_ = at::kFloat;
};

void check_sums(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& log_decay,
                const Tensor& beta, const RecurrenceCall& call) {
  constexpr auto* place = "recurrence_kernel";
  check_heads(place, query, key, value);
  TORCH_CHECK(query.size(2) == key.size(2), place, ": query ", query.sizes(), " and key ", key.sizes(),
              ", expected as many positions");
  const auto by_position = key.sizes().slice(0, 3);
  TORCH_CHECK(!log_decay.defined() || log_decay.sizes() == by_position ||
                  (log_decay.sizes() == key.sizes() && !beta.defined() && !call.projection.defined()),
              place, ": log_decay ", log_decay.defined() ? log_decay.sizes() : at::IntArrayRef(), " for key ",
              key.sizes(), ", expected [B, G, T], or without beta and projection [B, G, T, D]");
  TORCH_CHECK(!beta.defined() || (beta.sizes() == by_position && query.size(1) == key.size(1)), place, ": beta ",
              beta.defined() ? beta.sizes() : at::IntArrayRef(), " for query ", query.sizes(), " and key ", key.sizes(),
              ", expected [B, G, T] and as many heads of queries");
  const auto& projection = call.projection;
  TORCH_CHECK(!projection.defined() ||
                  (projection.dim() == 2 && projection.size(1) == query.size(3) && projection.is_contiguous()),
              place, ": projection ", projection.defined() ? projection.sizes() : at::IntArrayRef(), " for query ",
              query.sizes(), ", expected contiguous [F, D]");
}

}  // namespace

std::optional<at::ScalarType> recurrence_dtype(at::ScalarType value_dtype, std::initializer_list<Tensor> all) {
  constexpr int64_t fewest_positions = 8;
  if (!has_kernels(value_dtype)) return std::nullopt;
  for (const auto& x : all) {
    if (!x.defined()) continue;
    if (!x.is_cpu() || x.numel() == 0 || x.size(2) < fewest_positions) return std::nullopt;
    if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16) return std::nullopt;
  }
  return value_dtype;
}

Tensor recurrence_kernel(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& log_decay,
                         const Tensor& beta, const RecurrenceCall& call) {
  check_sums(query, key, value, log_decay, beta, call);
  TORCH_CHECK(call.chunk_length >= 1 && call.chunk_length <= longest_chunk, "recurrence_kernel: chunk_length ",
              call.chunk_length, ", expected 1 to ", longest_chunk);
  return RecurrenceKernel::apply(query, key, value, log_decay, beta, call);
}

}  // namespace attnscale

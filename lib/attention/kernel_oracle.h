#pragma once

#include <vector>

#include <ATen/ops/arange.h>

#include "attention/oracle_helpers.h"

// B batch, H heads, G key-value heads, T queries, S keys, n keys that a query sees, D key width, E value width
//
// What the oracles of the linear family share, in double precision. Nothing here is used by a forward pass.

namespace attnscale::oracle {

/// The keys that stand behind a query: rows [n, D] and where they stood.
struct SeenKeys {
  int64_t batch;
  int64_t head;      ///< of the queries
  int64_t kv_head;   ///< of the keys
  Tensor keys;       ///< [n, D]
  Tensor positions;  ///< int64 [n]
};

/// y_t = sum_i w_ti v_i / normaliser(sum_i w_ti); `weights(q [D], t, SeenKeys)` -> w_t [n].
/// The quadratic form: each weight from the kernel itself, with no feature sums.
template <class Weights, class Normaliser>
Tensor kernel_mean(const Inputs& in, bool causal, Weights weights, Normaliser normaliser) {
  const auto query = rows_of(in.query);
  const auto key = in_double(in.key), value = in_double(in.value);
  std::vector<Tensor> outputs;
  const int64_t heads = in.query.size(1), shared = heads / in.key.size(1);
  for (int64_t b = 0; b < in.query.size(0); ++b) {
    auto real = at::arange(in.key.size(2), in.key.options().dtype(torch::kInt64));
    if (in.key_padding.defined()) real = real.masked_select(in.key_padding[b]);
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t g = h / shared;
      const auto keys = key[b][g].index_select(0, real), values = value[b][g].index_select(0, real);
      for (int64_t t = 0; t < in.query.size(2); ++t) {
        const int64_t count = causal ? real.le(t).sum().template item<int64_t>() : real.size(0);
        if (count == 0) {
          outputs.push_back(at::zeros({value.size(3)}, value.options()));
          continue;
        }
        const SeenKeys seen{b, h, g, keys.narrow(0, 0, count), real.narrow(0, 0, count)};
        const auto w = weights(query[b][h][t], t, seen);  // [n]
        outputs.push_back(at::mv(values.narrow(0, 0, count).t(), w) / normaliser(w.sum()));
      }
    }
  }
  return at::stack(outputs).reshape({in.query.size(0), heads, in.query.size(2), in.value.size(3)});
}

/// The same with `sum + epsilon`.
template <class Weights>
Tensor kernel_mean(const Inputs& in, bool causal, double epsilon, Weights weights) {
  return kernel_mean(in, causal, weights, [epsilon](const Tensor& sum) { return sum + epsilon; });
}

/// A recurrence over a state S [F, E] that begins at zero for each row and head: `step(b, h, t, S)` updates S
/// and returns the output [E] of position t. @return [B, H, T, E]
template <class Step>
Tensor for_each_state(const Inputs& in, int64_t features, Step step) {
  const int64_t batch = in.query.size(0), heads = in.query.size(1), positions = in.query.size(2);
  std::vector<Tensor> outputs;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < heads; ++h) {
      auto state = at::zeros({features, in.value.size(3)}, in.value.options().dtype(torch::kFloat64));
      for (int64_t t = 0; t < positions; ++t) outputs.push_back(step(b, h, t, state));
    }
  return at::stack(outputs).reshape({batch, heads, positions, in.value.size(3)});
}

}  // namespace attnscale::oracle

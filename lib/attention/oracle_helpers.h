#pragma once

#include <cmath>
#include <vector>

#include <ATen/ops/mv.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "attention/attention.h"

// B batch, H heads, G key-value heads, T queries, S keys, D key width, E value width
//
// What the oracles share: double precision, one query at a time. Nothing here is used by a forward
// pass, so that an error cannot hide on both sides.

namespace attnscale::oracle {

inline Tensor in_double(const Tensor& x) { return x.to(torch::kFloat64); }

/// Every row of [B, H, S, W], in double: rows[b][h][i] is [W]. Taken apart once, as a gradient through
/// single selections would fill a whole tensor for each.
using Rows = std::vector<std::vector<std::vector<Tensor>>>;
inline Rows rows_of(const Tensor& x) {
  Rows rows;
  for (const auto& of_batch : in_double(x).unbind(0)) {
    auto& heads = rows.emplace_back();
    for (const auto& of_head : of_batch.unbind(0)) heads.push_back(of_head.unbind(0));
  }
  return rows;
}

inline bool is_real(const Inputs& inputs, int64_t batch, int64_t key) {
  return !inputs.key_padding.defined() || inputs.key_padding[batch][key].item<bool>();
}

/// sum_i softmax_i(q . k_i / sqrt(D)) v_i over the given rows; zeros when there are none.
inline Tensor attend(const Tensor& query, const std::vector<Tensor>& keys, const std::vector<Tensor>& values,
                     int64_t value_width) {
  if (keys.empty()) return at::zeros({value_width}, query.options());
  const auto logits = at::mv(at::stack(keys), query) / std::sqrt(static_cast<double>(query.size(0)));
  return at::mv(at::stack(values).t(), at::softmax(logits, 0));
}

/// `output_at(batch, head, key_value_head, position)` -> [E] for every query, as [B, H, T, E].
template <class OutputAt>
Tensor for_each_query(const Inputs& inputs, OutputAt output_at) {
  const int64_t batch = inputs.query.size(0), heads = inputs.query.size(1), queries = inputs.query.size(2);
  const int64_t shared = heads / inputs.key.size(1);  // neighbouring heads share a key-value head
  std::vector<Tensor> rows;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t t = 0; t < queries; ++t) rows.push_back(output_at(b, h, h / shared, t));
  return at::stack(rows).reshape({batch, heads, queries, inputs.value.size(3)});
}

}  // namespace attnscale::oracle

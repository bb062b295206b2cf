#include "attention/logits.h"

#include <limits>

#include <ATen/ops/_unsafe_view.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>

#include "attention/blocks.h"

namespace attnscale {

Tensor pair_products(const Tensor& query, const Tensor& key) {
  const int64_t batch = query.size(0), heads = query.size(1), queries = query.size(2), groups = key.size(1);
  if (heads == groups) return at::matmul(query, key.mT());
  const auto folded = query.reshape({batch, groups, heads / groups * queries, query.size(3)});
  // _unsafe_view: an in-place write to an ordinary view would make autograd copy the whole gradient.
  return at::_unsafe_view(at::matmul(folded, key.mT()), {batch, heads, queries, key.size(2)});
}

Tensor weighted_values(const Tensor& weights, const Tensor& value) {
  const int64_t batch = weights.size(0), heads = weights.size(1), queries = weights.size(2), groups = value.size(1);
  if (heads == groups) return at::matmul(weights, value);
  const auto folded = weights.reshape({batch, groups, heads / groups * queries, weights.size(3)});
  return at::matmul(folded, value).reshape({batch, heads, queries, value.size(3)});
}

Tensor attend_by_logits(Tensor logits, const Tensor& visible, const Tensor& value, const Tensor& sinks) {
  logits = logits.to(accumulation_type(logits.scalar_type()));
  // The lowest finite number: -inf would make NaN of a row without keys.
  if (visible.defined()) logits.masked_fill_(visible.logical_not(), std::numeric_limits<float>::lowest());
  auto output = weighted_values(at::softmax(logits, -1).to(value.scalar_type()), value);
  if (sinks.defined()) {
    // One more column divides every weight by 1 + exp(sink - log sum exp logits).
    const auto total = at::logsumexp(logits, {-1}, /*keepdim=*/true);  // [B, H, T, 1]
    output = output * at::sigmoid(total - sinks.view({-1, 1, 1})).to(output.scalar_type());
  }
  if (visible.defined()) output = output.masked_fill(visible.any(-1, /*keepdim=*/true).logical_not(), 0);
  return output;
}

}  // namespace attnscale

#include "attention/recurrence.h"

#include <algorithm>
#include <bit>
#include <limits>

#include <ATen/ops/addcmul.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "tensor/kernels/recurrence_kernel.h"

namespace attnscale {
namespace {

/// Cumulative log decays by chunk: [B, H, T, X] -> [B, H, n, c, X]; padding does not decay. In float64, as what is
/// used is differences: behind a strong decay, float32 would have lost the last digits of the small ones.
Tensor cumulative_log_decay(const Tensor& log_decay, const Blocks& blocks) {
  return key_blocks(log_decay, blocks).cumsum(3, torch::kFloat64);
}

/// The factor of a difference of cumulative log decays, in the dtype of `like`.
Tensor decayed(const Tensor& log_factor, const Tensor& like) { return log_factor.to(like.scalar_type()).exp(); }

/// exp(g_{i+1} + .. + g_t) for i <= t, 0 above: [.., c, 1] -> [.., c, c]. Hidden before the exponential,
/// which would overflow there.
Tensor decay_between(const Tensor& cumulative_decay, const Tensor& like) {
  const int64_t c = cumulative_decay.size(-2);
  const auto later = at::ones({c, c}, cumulative_decay.options().dtype(torch::kBool)).triu(1);
  const auto difference = (cumulative_decay - cumulative_decay.mT()).to(like.scalar_type());
  return difference.masked_fill(later, -std::numeric_limits<double>::infinity()).exp();
}

Tensor initial_or_zeros(const ChunkedCall& call, const Tensor& key, const Tensor& value) {
  if (call.initial.defined()) return call.initial;
  return at::zeros({value.size(0), value.size(1), key.size(-1), value.size(-1)}, value.options());
}

/// The state that each chunk finds, from what the chunks before it made [B, H, m, F, E] and how much of the older
/// state they left over [B, H, m, F or 1, 1]. @return m + 1 states, the last one behind the last chunk.
std::vector<Tensor> found_states(Tensor state, const Tensor& made, const Tensor& left_over) {
  std::vector<Tensor> found = {state};
  const auto additions = made.unbind(2), factors = left_over.unbind(2);
  for (size_t i = 0; i < additions.size(); ++i) {
    state = at::addcmul(additions[i], factors[i], state);
    found.push_back(state);
  }
  return found;
}

CallSizes sizes_of(const Tensor& query, const Tensor& value) {
  return {query.size(0), query.size(1), value.size(1), query.size(2), query.size(2), query.size(3), value.size(3)};
}

/// The kernel's outputs; undefined where it does not apply. Keys are expanded to the heads of the values.
Tensor outputs_of_kernel(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& log_decay,
                         const Tensor& beta, const ChunkedCall& call, double flops) {
  if (call.initial.defined() || call.with_state || value.scalar_type() != at::kFloat) return {};
  const auto dtype = recurrence_dtype(call.products, {query, key, value, log_decay, beta});
  if (!dtype) return {};
  const auto by_state = [&](const Tensor& x) { return x.expand({-1, std::max(x.size(1), value.size(1)), -1, -1}); };
  return recurrence_kernel(by_state(query), by_state(key), value, log_decay, beta,
                           {.dtype = *dtype, .chunk_length = call.chunk_length, .flops = flops});
}

}  // namespace

Recurred scalar_decay(const Tensor& whole_query, const Tensor& whole_key, const Tensor& whole_value,
                      const Tensor& log_decay, const ChunkedCall& call) {
  const int64_t key_heads = whole_key.size(1), states = whole_value.size(1), positions = whole_query.size(2);
  const auto cost = scalar_decay_cost(sizes_of(whole_query, whole_value), key_heads, call.chunk_length);
  if (auto made = outputs_of_kernel(whole_query, whole_key, whole_value, log_decay, {}, call, cost.flops);
      made.defined())
    return {made, {}};
  const int64_t shared = whole_query.size(1) / key_heads;  // R
  const auto blocks = even_blocks(positions, call.chunk_length);
  const auto [n, c] = blocks;
  const auto query = query_blocks(whole_query, key_heads, blocks);         // [B, H or 1, n, R c, F]
  const auto key = key_blocks(whole_key, blocks);                          // [B, H or 1, n, c, F]
  const auto value = key_blocks(whole_value, blocks);                      // [B, H, n, c, E]
  const auto sum = cumulative_log_decay(log_decay.unsqueeze(-1), blocks);  // [B, H, n, c, 1]

  const auto products = at::matmul(query, key.mT()).unflatten(3, {shared, c});             // [B, H or 1, n, R, c, c]
  const auto weights = (products * decay_between(sum, value).unsqueeze(3)).flatten(3, 4);  // [B, H, n, R c, c]
  auto outputs = at::matmul(weights, value);                                               // [B, H, n, R c, E]
  Recurred result;
  const int64_t carried = call.with_state ? n : n - 1;  // chunks whose state somebody needs
  if (n > 1 || call.initial.defined() || call.with_state) {
    const auto last = sum.narrow(3, c - 1, 1);  // [B, H, n, 1, 1]
    const auto late = value.narrow(2, 0, carried) * decayed((last - sum).narrow(2, 0, carried), value);
    const auto made = at::matmul(key.narrow(2, 0, carried).mT(), late);  // [B, H, n - 1 or n, F, E]
    auto found = found_states(initial_or_zeros(call, key, value), made, decayed(last.narrow(2, 0, carried), value));
    if (call.with_state) result.state = found.back(), found.pop_back();
    if (n > 1 || call.initial.defined()) {
      const auto read = at::matmul(query, at::stack(found, 2)).unflatten(3, {shared, c});  // [B, H, n, R, c, E]
      outputs = outputs + (read * decayed(sum, value).unsqueeze(3)).flatten(3, 4);
    }
  }
  result.outputs = joined_blocks(outputs, states * shared, positions);
  return result;
}

EngineCost scalar_decay_cost(const CallSizes& sizes, int64_t key_heads, int64_t chunk_length) {
  const auto blocks = even_blocks(sizes.queries, chunk_length);
  const double batch = sizes.batch, states = sizes.kv_heads, n = blocks.count, c = blocks.length;
  const double f = sizes.key_width, e = sizes.value_width;
  // Keys may be fewer than states (one for all); queries never are, in what they share.
  const double shared = std::max(1.0, static_cast<double>(sizes.heads) / states);
  EngineCost cost{2 * batch * n * shared * c * c * (key_heads * f + states * e),
                  batch * states * n * (2 * shared + 1) * c * c};
  if (blocks.count > 1) {
    cost.flops += 2 * batch * states * ((n - 1) + n * shared) * c * f * e;
    cost.kept += batch * states * n * (2 * f * e + (1 + shared) * c * e);
  }
  return cost;
}

Recurred diagonal_decay(const Tensor& whole_query, const Tensor& whole_key, const Tensor& whole_value,
                        const Tensor& log_decay, const ChunkedCall& call) {
  const auto cost = diagonal_decay_cost(sizes_of(whole_query, whole_value), call.chunk_length);
  if (auto made = outputs_of_kernel(whole_query, whole_key, whole_value, log_decay, {}, call, cost.flops);
      made.defined())
    return {made, {}};
  const int64_t positions = whole_query.size(2);
  const auto power = [](int64_t x, bool up) {
    return static_cast<int64_t>(up ? std::bit_ceil(static_cast<uint64_t>(x))
                                   : std::bit_floor(static_cast<uint64_t>(x)));
  };
  const int64_t c = std::min(power(positions, true), power(call.chunk_length, false)), n = ceil_div(positions, c);
  const Blocks blocks{n, c};
  const auto query = key_blocks(whole_query, blocks), key = key_blocks(whole_key, blocks);  // [B, H, n, c, F]
  const auto value = key_blocks(whole_value, blocks);                                       // [B, H, n, c, E]
  const auto sum = cumulative_log_decay(log_decay, blocks);                                 // [B, H, n, c, F]

  auto outputs = (query * key).sum(-1, true) * value;  // each position meets itself
  for (int64_t half = 1; half < c; half *= 2) {
    const auto part = [&](const Tensor& x, int64_t side) {  // [B, H, n, c / (2 half), half, F or E]
      return x.unflatten(3, {c / (2 * half), 2, half}).select(4, side);
    };
    const auto left = part(sum, 0), boundary = left.narrow(-2, half - 1, 1);
    const auto later = part(query, 1) * decayed(part(sum, 1) - boundary, value);
    const auto earlier = part(key, 0) * decayed(boundary - left, value);
    const auto met = at::matmul(at::matmul(later, earlier.mT()), part(value, 0));
    outputs = at::stack({part(outputs, 0), part(outputs, 1) + met}, 4).flatten(3, 5);
  }
  Recurred result;
  const int64_t carried = call.with_state ? n : n - 1;
  if (n > 1 || call.initial.defined() || call.with_state) {
    const auto last = sum.narrow(3, c - 1, 1);  // [B, H, n, 1, F]
    const auto late = key.narrow(2, 0, carried) * decayed((last - sum).narrow(2, 0, carried), value);
    const auto made = at::matmul(late.mT(), value.narrow(2, 0, carried));
    auto found =
        found_states(initial_or_zeros(call, key, value), made, decayed(last.narrow(2, 0, carried), value).mT());
    if (call.with_state) result.state = found.back(), found.pop_back();
    if (n > 1 || call.initial.defined())
      outputs = outputs + at::matmul(query * decayed(sum, value), at::stack(found, 2));
  }
  result.outputs = joined_blocks(outputs, whole_query.size(1), positions);
  return result;
}

EngineCost diagonal_decay_cost(const CallSizes& sizes, int64_t chunk_length) {
  const auto length = [](int64_t x) { return static_cast<uint64_t>(x); };
  const int64_t chunk =
      static_cast<int64_t>(std::min(std::bit_ceil(length(sizes.queries)), std::bit_floor(length(chunk_length))));
  const double n = ceil_div(sizes.queries, chunk), c = chunk, rows = static_cast<double>(sizes.batch) * sizes.heads * n;
  const double f = sizes.key_width, e = sizes.value_width, levels = std::bit_width(length(chunk)) - 1;
  EngineCost cost{rows * c * (c - 1) * (f + e), rows * c * (levels * (2.5 * f + e) + (c - 1) / 2)};
  if (n > 1) {
    cost.flops += 2 * rows / n * (2 * n - 1) * c * f * e;
    cost.kept += rows * (2 * f * e + 4 * c * f);
  }
  return cost;
}

Recurred delta_rule(const Tensor& whole_query, const Tensor& whole_key, const Tensor& whole_value, const Tensor& beta,
                    const Tensor& log_decay, const ChunkedCall& call) {
  const auto cost = delta_rule_cost(sizes_of(whole_query, whole_value), call.chunk_length);
  if (auto made = outputs_of_kernel(whole_query, whole_key, whole_value, log_decay, beta, call, cost.flops);
      made.defined())
    return {made, {}};
  const int64_t positions = whole_query.size(2), width = whole_value.size(3);
  const auto blocks = even_blocks(positions, call.chunk_length);
  const auto [n, c] = blocks;
  const auto query = key_blocks(whole_query, blocks), key = key_blocks(whole_key, blocks);  // [B, H, n, c, F]
  const auto value = key_blocks(whole_value, blocks);                                       // [B, H, n, c, E]
  const auto strength = key_blocks(beta.unsqueeze(-1), blocks);                             // [B, H, n, c, 1]
  const auto sum = log_decay.defined() ? cumulative_log_decay(log_decay.unsqueeze(-1), blocks)
                                       : at::zeros_like(strength, strength.options().dtype(torch::kFloat64));
  const auto between = decay_between(sum, value);  // [B, H, n, c, c]

  // A correction d_t = b_t (v_t - a_t S_{t-1}^T k_t) contains the earlier ones of its chunk:
  // d_t + b_t sum_{i<t} (a_{i+1} .. a_t) (k_t . k_i) d_i = b_t v_t - b_t (a_1 .. a_t) S^T k_t, S found by the chunk.
  const auto system = strength * between * at::matmul(key, key.mT());  // the solver reads below the diagonal only
  const bool has_past = n > 1 || call.initial.defined();
  auto right = strength * value;
  if (has_past) right = at::cat({right, strength * decayed(sum, value) * key}, -1);
  const auto solved =
      at::linalg_solve_triangular(system, right, /*upper=*/false, /*left=*/true, /*unitriangular=*/true);
  auto corrections = solved.narrow(-1, 0, width);  // [B, H, n, c, E]

  const auto weights = between * at::matmul(query, key.mT());  // [B, H, n, c, c]
  const auto last = sum.narrow(3, c - 1, 1);                   // [B, H, n, 1, 1]
  const auto late = (key * decayed(last - sum, value)).mT();   // [B, H, n, F, c]
  Recurred result;
  if (!has_past) {
    if (call.with_state) result.state = at::matmul(late.select(2, 0), corrections.select(2, 0));
    result.outputs = joined_blocks(at::matmul(weights, corrections), whole_query.size(1), positions);
    return result;
  }
  const auto from_past = solved.narrow(-1, width, key.size(-1)).unbind(2);  // n x [B, H, c, F]
  const auto own = corrections.unbind(2), writes = late.unbind(2), left_over = decayed(last, value).unbind(2);
  std::vector<Tensor> found, made;
  auto state = initial_or_zeros(call, key, value);
  for (int64_t i = 0; i < n; ++i) {
    found.push_back(state);
    made.push_back(own[i] - at::matmul(from_past[i], state));
    if (i + 1 < n || call.with_state) state = at::addcmul(at::matmul(writes[i], made[i]), left_over[i], state);
  }
  if (call.with_state) result.state = state;
  const auto outputs =
      at::matmul(weights, at::stack(made, 2)) + at::matmul(query * decayed(sum, value), at::stack(found, 2));
  result.outputs = joined_blocks(outputs, whole_query.size(1), positions);
  return result;
}

EngineCost delta_rule_cost(const CallSizes& sizes, int64_t chunk_length) {
  const auto blocks = even_blocks(sizes.queries, chunk_length);
  const double n = blocks.count, c = blocks.length, f = sizes.key_width, e = sizes.value_width;
  const double rows = static_cast<double>(sizes.batch) * sizes.heads;
  EngineCost cost{2 * rows * n * c * c * (2 * f + e), rows * n * (5 * c * c + 2 * c * (e + f))};
  if (blocks.count > 1) {
    cost.flops += 2 * rows * (3 * n - 1) * c * f * e;
    cost.kept += rows * n * (2 * f * e + c * (4 * f + e));
  }
  return cost;
}

}  // namespace attnscale

#include "diagnostics/attention_map.h"

#include <algorithm>
#include <cmath>

#include <ATen/ops/arange.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

namespace attnscale {
namespace {

// Copies of a sequence that are looked at together: enough for full speed, few enough for memory.
constexpr int64_t copies_at_once = 64;

/// The inputs of one sequence, `count` times, as constants but for `leaf`.
Inputs copies_of(const Inputs& inputs, int64_t count) {
  const auto copy = [&](const Tensor& x) { return x.defined() ? x.detach().repeat({count, 1, 1, 1}) : x; };
  Inputs result{.query = copy(inputs.query),
                .key = copy(inputs.key),
                .value = copy(inputs.value),
                .gates = {},
                .hidden = copy(inputs.hidden),
                .key_padding = {}};
  for (const auto& [name, gate] : inputs.gates) result.gates[name] = copy(gate);
  return result;
}

/// Vector-Jacobian products: row i is the gradient of sum(y_t . r) for t = first + i to every position. [count, S, W]
Tensor pulled_back(Attention& attention, const Inputs& inputs, int64_t head, int64_t first, int64_t count,
                   const Tensor& direction) {
  auto copies = copies_of(inputs, count);
  const bool owning = copies.hidden.defined();
  auto& leaf = owning ? copies.hidden : copies.value;
  leaf.requires_grad_(true);
  const auto output = attention.forward(copies).select(1, head);                      // [count, T, E]
  const auto own = output.narrow(1, first, count).diagonal(0, 0, 1).transpose(0, 1);  // [count, E]
  const auto slope = torch::autograd::grad({(own * direction).sum()}, {leaf}, {}, /*retain_graph=*/false,
                                           /*create_graph=*/false, /*allow_unused=*/true)[0];
  if (!slope.defined()) return at::zeros_like(leaf).select(1, 0);
  const int64_t shared = owning ? 1 : inputs.query.size(1) / inputs.value.size(1);
  return slope.select(1, owning ? 0 : head / shared);
}

}  // namespace

Tensor implied_attention(Attention& attention, const Inputs& inputs, int64_t probes) {
  const bool owning = inputs.hidden.defined();
  const auto& like = owning ? inputs.hidden : inputs.value;
  const int64_t heads = owning ? 1 : inputs.query.size(1), length = like.size(2), width = like.size(3);
  std::vector<Tensor> maps;
  for (int64_t head = 0; head < heads; ++head) {
    auto map = at::zeros({length, length}, like.options());
    for (int64_t probe = 0; probe < probes; ++probe) {
      const auto direction = at::randint(0, 2, {width}, like.options()) * 2 - 1;
      std::vector<Tensor> rows;
      for (int64_t first = 0; first < length; first += copies_at_once) {
        const auto slopes =
            pulled_back(attention, inputs, head, first, std::min(copies_at_once, length - first), direction);
        rows.push_back(owning ? slopes.square().sum(-1) : (slopes * direction).sum(-1));
      }
      map += at::cat(rows) / static_cast<double>(width);
    }
    map = map / static_cast<double>(probes);
    maps.push_back(owning ? map.sqrt() : map);
  }
  return at::stack(maps).detach();
}

AttentionStatistics attention_statistics(const Tensor& map, bool causal) {
  const auto exact = map.to(at::kCPU, at::kDouble);
  const int64_t length = exact.size(1);
  const auto positions = at::arange(length, exact.options());
  const auto visible = causal ? positions + 1 : at::full_like(positions, length);
  AttentionStatistics statistics;
  for (const auto& head : exact.unbind(0)) {
    const auto weight = head.abs();
    const auto total = weight.sum(1, /*keepdim=*/true);
    const auto counts = (total.squeeze(1) > 0).logical_and(visible > 1);
    const auto share = weight / total.clamp_min(1e-300);  // [T, T]
    const auto mean = [&](const Tensor& by_row) {
      const auto kept = by_row.masked_select(counts);
      return kept.numel() == 0 ? 0.0 : kept.mean().item<double>();
    };
    const auto entropy = -(share * share.clamp_min(1e-300).log()).sum(1);
    statistics.entropy.push_back(mean(entropy));
    statistics.share_of_limit.push_back(mean(entropy / visible.log().clamp_min(1e-300)));
    statistics.distance.push_back(mean((share * (positions.unsqueeze(1) - positions).abs()).sum(1)));
    statistics.to_itself.push_back(mean(share.diagonal()));
    statistics.to_first.push_back(mean(share.select(1, 0)));
    statistics.negative.push_back(mean((share * (head < 0)).sum(1)));
    const auto singular = at::linalg_svdvals(head);
    const auto spectrum = singular / singular.sum().clamp_min(1e-300);
    statistics.rank.push_back(std::exp(-(spectrum * spectrum.clamp_min(1e-300).log()).sum().item<double>()));
  }
  return statistics;
}

}  // namespace attnscale

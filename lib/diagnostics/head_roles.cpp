#include "diagnostics/head_roles.h"

#include <ATen/Functions.h>

namespace attnscale {

std::vector<double> induction_scores(const Tensor& map) {
  const int64_t half = map.size(1) / 2;
  const auto weights = map.detach().to(at::kDouble).abs();
  const auto shares = weights / weights.sum(2, true).clamp_min(1e-300);  // [H, T, T]
  // s = t - half + 1: the diagonal half - 1 below the main one, from t = half on.
  const auto diagonal = shares.diagonal(1 - half, 1, 2);  // [H, T - half + 1], t from half - 1 on
  const auto scores = diagonal.narrow(1, 1, half).mean(1).contiguous();
  return {scores.const_data_ptr<double>(), scores.const_data_ptr<double>() + scores.numel()};
}

Tensor subspace_overlaps(const Tensor& output, int64_t num_heads) {
  const auto heads = output.to(at::kCPU, at::kDouble).unflatten(1, {num_heads, -1}).transpose(0, 1);  // [H, M, E]
  const auto bases = std::get<0>(at::linalg_qr(heads));                                               // [H, M, E]
  const auto cosines = at::einsum("gme,hmf->ghef", {bases, bases});
  return cosines.square().sum({2, 3}) / static_cast<double>(heads.size(2));
}

double mean_overlap(const Tensor& overlaps) {
  const auto pairs = static_cast<double>(overlaps.size(0) * (overlaps.size(0) - 1));
  return ((overlaps.sum() - overlaps.diagonal().sum()) / pairs).item<double>();
}

}  // namespace attnscale

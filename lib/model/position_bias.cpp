#include "model/position_bias.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace attnscale {

bool has_logit_bias(const ModelOptions& options) {
  return options.position == "alibi" || options.position == "relative";
}

std::vector<double> alibi_slopes(int64_t num_heads) {
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(num_heads)));
  std::vector<double> slopes;
  for (int64_t h = 1; h <= power; ++h)
    slopes.push_back(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(power)));
  for (int64_t h = 1; std::ssize(slopes) < num_heads; h += 2)
    slopes.push_back(std::exp2(-4.0 * static_cast<double>(h) / static_cast<double>(power)));
  return slopes;
}

int64_t relative_bucket(int64_t back, int64_t buckets, int64_t distance) {
  const int64_t single = buckets / 2;
  if (back < single) return back;
  const double ratio = std::log(static_cast<double>(back) / static_cast<double>(single)) /
                       std::log(static_cast<double>(distance) / static_cast<double>(single));
  return std::min(buckets - 1, single + static_cast<int64_t>(ratio * static_cast<double>(buckets - single)));
}

PositionBias::PositionBias(const ModelOptions& options, int64_t context) : causal_(options.causal.value()) {
  if (options.position == "alibi") {
    slopes_ = torch::tensor(alibi_slopes(options.num_heads), torch::kFloat64);
    return;
  }
  const int64_t count = causal_ ? options.relative_buckets : options.relative_buckets / 2;
  std::vector<int64_t> buckets;
  for (int64_t distance = 0; distance < context; ++distance)
    buckets.push_back(relative_bucket(distance, count, options.relative_distance));
  buckets_ = torch::tensor(buckets, torch::kInt64);
  weight_ = register_parameter("weight", torch::empty({options.relative_buckets, options.num_heads}));
}

Tensor PositionBias::forward(int64_t queries, int64_t keys, const Tensor& like) const {
  const auto type = like.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const auto positions = torch::arange(keys, torch::dtype(torch::kInt64).device(like.device()));
  const auto back = positions.narrow(0, keys - queries, queries).unsqueeze(1) - positions;  // [T, S]
  const auto distance = causal_ ? back.clamp_min(0) : back.abs();
  if (slopes_.defined()) return (-slopes_.to(like.device()).view({-1, 1, 1}) * distance).to(type).unsqueeze(0);
  auto bucket = buckets_.to(like.device()).index_select(0, distance.flatten()).view({queries, keys});
  if (!causal_) bucket = bucket + back.lt(0) * (weight_.size(0) / 2);
  const auto rows = at::embedding(weight_, bucket);  // [T, S, H]
  return rows.permute({2, 0, 1}).unsqueeze(0).to(type);
}

}  // namespace attnscale

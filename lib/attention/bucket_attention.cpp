#include "attention/bucket_attention.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "attention/blocks.h"
#include "attention/gather_rows.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/projections.h"
#include "attention/routed_blocks.h"
#include "tensor/full_precision.h"
#include "tensor/shapes.h"

namespace attnscale {
namespace {

/// Place of what is not there: further than any window.
constexpr int64_t bucket_far = int64_t{1} << 40;

/// Taken from the logit of the own position under `self_last` (the paper's 1e5): its weight is then 0 beside others,
/// and 1 alone.
constexpr double bucket_self_penalty = 1e5;

/// The sorted order in chunks of c places, and the chunks before and after that a window reaches.
struct BucketPlan {
  Blocks chunks;
  int64_t before = 0, after = 0;
  int64_t count() const { return before + 1 + after; }  // w
};
BucketPlan bucket_plan(int64_t window, bool causal, int64_t positions) {
  const auto [behind, ahead] = window_reach(window, causal);
  const auto chunks = even_blocks(positions, std::max<int64_t>(window, 16));
  if (chunks.count == 1) return {chunks};
  return {chunks, std::min(ceil_div(behind, chunks.length), chunks.count - 1),
          std::min(ceil_div(ahead, chunks.length), chunks.count - 1)};
}

/// [N, T, X] -> [N, n, w c, X]: each chunk with its neighbours; `outside` where there are none.
Tensor bucket_neighbours(const Tensor& x, const BucketPlan& plan, double outside) {
  const auto [n, c] = plan.chunks;
  const auto padded =
      at::constant_pad_nd(x, {0, 0, plan.before * c, plan.chunks.padded() - x.size(1) + plan.after * c}, outside);
  const auto blocks = padded.unflatten(1, {-1, c});
  std::vector<Tensor> pieces;
  for (int64_t i = 0; i < plan.count(); ++i) pieces.push_back(blocks.narrow(1, i, n));
  return pieces.size() == 1 ? pieces.front() : at::cat(pieces, 2);
}

/// Positions in the order of (bucket, position), and where each stands there, so spread that two positions are
/// less than `window` apart only inside one bucket.
struct BucketOrder {
  Tensor order;   ///< [N, r, T]
  Tensor place;   ///< [N, r, T], the inverse
  Tensor spread;  ///< [N, r, T]
};
BucketOrder bucket_order(const Tensor& bucket, int64_t window) {
  const auto order = at::argsort(bucket, /*stable=*/true, -1, false);
  const auto places = at::arange(bucket.size(-1), bucket.options()).expand(bucket.sizes());
  const auto place = at::zeros_like(order).scatter(-1, order, places);
  return {order, place, place + bucket * window};
}

/// Which of a chunk's pairs are in a window of their round, and the logarithm of how many rounds have them: a pair that
/// several have is shared out among them, so that the union counts it once.
struct BucketPairs {
  Tensor visible;    ///< bool [N r, n, c, w c]
  Tensor log_times;  ///< the same; undefined for a single round
};

/// @param query  [N r, n, c, r], spread places of a chunk's positions in every round
/// @param key    [N r, n, w c, r], those of the positions that it may see
BucketPairs bucket_pairs(const Tensor& query, const Tensor& key, const Reach& reach, torch::ScalarType type) {
  const int64_t rounds = query.size(3);
  std::vector<Tensor> near;
  for (int64_t round = 0; round < rounds; ++round) {
    const auto distance = query.select(3, round).unsqueeze(3) - key.select(3, round).unsqueeze(2);
    near.push_back(distance.le(reach.behind).logical_and(distance.ge(-reach.ahead)));  // [N r, n, c, w c]
  }
  if (rounds == 1) return {near.front(), {}};
  auto times = near.front().to(type);
  std::vector<Tensor> own;  // rows sorted by a round, as that round sees them
  for (int64_t round = 0; round < rounds; ++round) {
    if (round > 0) times = times + near[static_cast<size_t>(round)];
    own.push_back(near[static_cast<size_t>(round)].unflatten(0, {-1, rounds}).select(1, round));
  }
  return {at::stack(own, 1).flatten(0, 1), times.clamp_min(1).log()};
}

}  // namespace

Tensor unit_rows(const Tensor& x) {
  constexpr double least = 1e-12;  // squared length below which a row shrinks to zero
  return x * at::rsqrt((x * x).sum(-1, true) + least);
}

BucketAttention::BucketAttention(const Geometry& geometry, const Buckets& buckets)
    : Attention(geometry), buckets_(buckets) {
  const int64_t keys = geometry.num_heads * geometry.head_dim, values = geometry.num_heads * geometry.value_dim;
  shared_ = register_module("shared", input_projection(geometry.model_dim, keys));
  value_ = register_module("value", input_projection(geometry.model_dim, values));
  output_ = register_module("output", output_projection(values, geometry.model_dim, geometry.depth));
}

int64_t BucketAttention::projection_parameters(const Geometry& geometry) {
  return geometry.model_dim * geometry.num_heads * (geometry.head_dim + 2 * geometry.value_dim);
}

/// [B, 1, T, M] -> [B, H, T, width]
Tensor BucketAttention::heads_of(const Tensor& hidden, const attnscale::Linear& projection, int64_t width) const {
  return projection.forward(hidden.squeeze(1)).unflatten(-1, {geometry_.num_heads, width}).transpose(1, 2);
}

/// [B, H, T, E] -> [B, 1, T, M]
Tensor BucketAttention::projected(const Tensor& attended, torch::ScalarType type) const {
  return output_->forward(attended.transpose(1, 2).flatten(2).to(type)).unsqueeze(1);
}

Tensor BucketAttention::forward(const Inputs& in) {
  check_shapes("bucket attention", {{"hidden", in.hidden, "B * T M"}});
  const auto shared = heads_of(in.hidden, *shared_, geometry_.head_dim);
  const auto value = heads_of(in.hidden, *value_, geometry_.value_dim);
  const auto type = accumulation_type(value.scalar_type());
  Tensor attended;
  {
    const FullPrecision sums_stay_float32;
    if (is_training() && at::GradMode::is_enabled()) observe(shared.to(type), in.key_padding);
    attended = windowed(shared.to(type), value.to(type), in.key_padding);
  }
  return projected(attended, in.hidden.scalar_type());
}

/// shared [B, H, T, D], value [B, H, T, E]
Tensor BucketAttention::windowed(const Tensor& shared, const Tensor& value, const Tensor& key_padding) const {
  const int64_t batch = shared.size(0), heads = shared.size(1), positions = shared.size(2), rounds = buckets_.rounds;
  const int64_t rows = batch * heads;
  auto bucket = assigned(shared.detach()).view({rows, rounds, positions});
  Tensor unreal;  // [N, 1, T]
  if (key_padding.defined()) {
    // Padded positions share a bucket of their own, so that they take no places in others.
    unreal = key_padding.logical_not().repeat_interleave(heads, 0).unsqueeze(1);
    bucket = at::where(unreal, int64_t{1} << 20, bucket);
  }
  const auto [order, place, spread] = bucket_order(bucket, buckets_.window);
  const auto key_spread = unreal.defined() ? spread.masked_fill(unreal, -bucket_far) : spread;
  const auto plan = bucket_plan(buckets_.window, geometry_.causal, positions);
  const auto [n, c] = plan.chunks;

  // Rows in the order of each round: [N, T, X] -> [N r, T, X]
  const auto sorted = [&, order = order](const Tensor& x) {
    return gather_rows(x, order.flatten(1)).view({rows * rounds, positions, x.size(2)});
  };
  const auto chunked = [&, n = n, c = c](const Tensor& x, double outside) {
    return at::constant_pad_nd(x, {0, 0, 0, n * c - positions}, outside).unflatten(1, {n, c});
  };
  const auto pair = looked_up(shared);
  const double scale = 1 / std::sqrt(static_cast<double>(shared.size(3)));
  const auto query = chunked(sorted(pair.query.reshape({rows, positions, -1}) * scale), 0);      // [N r, n, c, D]
  const auto key = bucket_neighbours(sorted(pair.key.reshape({rows, positions, -1})), plan, 0);  // [N r, n, w c, D]
  const auto values = bucket_neighbours(sorted(value.reshape({rows, positions, -1})), plan, 0);  // [N r, n, w c, E]

  // How far apart two positions stand in every round: [N r, n, c, w c] for each.
  const auto query_places = chunked(sorted(spread.mT()), -bucket_far);                    // [N r, n, c, r]
  const auto key_places = bucket_neighbours(sorted(key_spread.mT()), plan, -bucket_far);  // [N r, n, w c, r]
  const auto pairs =
      bucket_pairs(query_places, key_places, window_reach(buckets_.window, geometry_.causal), query.scalar_type());
  auto logits = at::matmul(query, key.mT());
  if (pairs.log_times.defined()) logits = logits - pairs.log_times;
  if (buckets_.self_last) {
    const auto at = at::arange(positions, order.options()).expand({rows, positions}).unsqueeze(2);
    const auto own = chunked(sorted(at), -1).eq(bucket_neighbours(sorted(at), plan, -2).mT());  // [N r, n, c, w c]
    logits = logits - own.to(logits.scalar_type()) * bucket_self_penalty;
  }
  const auto part = partial_attention(logits, pairs.visible, values);  // in each round's order

  const auto back = [&, place = place, n = n, c = c](const Tensor& x) {  // [N r, n, c, X] -> [N, T, r, X]
    const auto flat = x.flatten(1, 2).narrow(1, 0, positions).reshape({rows * rounds, positions, x.size(3)});
    return gather_rows(flat, place.flatten(0, 1)).view({rows, rounds, positions, x.size(3)}).transpose(1, 2);
  };
  const auto output = rounds == 1 ? back(part.output).squeeze(2)
                                  : joined_parts(back(part.output), back(part.log_sum.unsqueeze(3)).squeeze(3));
  return output.view({batch, heads, positions, -1});
}

State BucketAttention::new_state(int64_t batch, torch::TensorOptions options) const {
  if (!geometry_.causal) return Attention::new_state(batch, options);
  const auto empty = [&](int64_t width) { return at::empty({batch, geometry_.num_heads, 0, width}, options); };
  return {.tensors = {{"shared", empty(geometry_.head_dim)}, {"value", empty(geometry_.value_dim)}}};
}

Tensor BucketAttention::decode(const Inputs& in, State& state) {
  auto& shared = state.tensors.at("shared");
  auto& value = state.tensors.at("value");
  const int64_t before = state.length, queries = in.hidden.size(2);
  shared = at::cat({shared, heads_of(in.hidden, *shared_, geometry_.head_dim).to(shared.scalar_type())}, 2);
  value = at::cat({value, heads_of(in.hidden, *value_, geometry_.value_dim).to(value.scalar_type())}, 2);
  state.length += queries;
  const auto type = accumulation_type(value.scalar_type());
  Tensor attended;
  {
    const FullPrecision sums_stay_float32;
    const auto all = shared.to(type);
    if (before == 0) {
      attended = windowed(all, value.to(type), {});
    } else {
      const int64_t batch = all.size(0), heads = all.size(1), keys = all.size(2);
      const auto spread =
          bucket_order(assigned(all).view({batch * heads, buckets_.rounds, keys}), buckets_.window).spread;
      const auto distance = spread.narrow(2, before, queries).unsqueeze(3) - spread.unsqueeze(2);  // [N, r, T, S]
      auto seen = distance.ge(0).logical_and(distance < buckets_.window).any(1);                   // [N, T, S]
      if (buckets_.self_last) {
        const auto at = at::arange(keys, spread.options());
        const auto own = at.narrow(0, before, queries).unsqueeze(1).eq(at);  // [T, S]
        const auto others = seen.logical_and(own.logical_not());
        seen = others.logical_or(own.logical_and(others.any(-1, true).logical_not()));
      }
      const auto pair = looked_up(all);
      attended = softmax_attention(pair.query.narrow(2, before, queries), pair.key, value.to(type), false,
                                   seen.view({batch, heads, queries, keys}));
    }
  }
  return projected(attended, in.hidden.scalar_type());
}

Tensor BucketAttention::oracle(const Inputs& in) const {
  using namespace oracle;
  const int64_t heads = geometry_.num_heads, positions = in.hidden.size(2);
  const auto [behind, ahead] = window_reach(buckets_.window, geometry_.causal);
  const auto through = [&](const attnscale::Linear& layer, int64_t width) {
    const auto weight = in_double(layer.named_parameters()["weight"]);
    return rows_of(at::linear(in_double(in.hidden).squeeze(1), weight).unflatten(-1, {heads, width}).transpose(1, 2));
  };
  const auto shared = through(*shared_, geometry_.head_dim), value = through(*value_, geometry_.value_dim);
  std::vector<Tensor> batch_rows;
  for (int64_t b = 0; b < in.hidden.size(0); ++b) {
    std::vector<Tensor> by_head;
    for (int64_t h = 0; h < heads; ++h) {
      std::vector<Tensor> queries, key_rows;
      for (const auto& row : shared[b][h]) {
        const auto pair = oracle_pair(row);
        queries.push_back(pair.query);
        key_rows.push_back(pair.key);
      }
      const auto keys = at::stack(key_rows);       // [T, D]
      const auto values = at::stack(value[b][h]);  // [T, E]
      std::vector<std::vector<int64_t>> bucket;    // [T][r]
      for (const auto& row : shared[b][h]) bucket.push_back(oracle_buckets(row.detach(), h));
      std::vector<std::set<int64_t>> seen(static_cast<size_t>(positions));
      for (int64_t round = 0; round < buckets_.rounds; ++round) {
        std::map<int64_t, std::vector<int64_t>> members;
        for (int64_t t = 0; t < positions; ++t)
          if (is_real(in, b, t)) members[bucket[static_cast<size_t>(t)][static_cast<size_t>(round)]].push_back(t);
        for (const auto& [name, list] : members)
          for (int64_t i = 0; i < std::ssize(list); ++i)
            for (int64_t j = std::max<int64_t>(0, i - behind); j <= std::min(i + ahead, std::ssize(list) - 1); ++j)
              seen[static_cast<size_t>(list[static_cast<size_t>(i)])].insert(list[static_cast<size_t>(j)]);
      }
      std::vector<Tensor> outputs;
      for (int64_t t = 0; t < positions; ++t) {
        auto& set = seen[static_cast<size_t>(t)];
        if (buckets_.self_last && set.size() > 1) set.erase(t);
        if (set.empty()) {
          outputs.push_back(at::zeros({geometry_.value_dim}, values.options()));
          continue;
        }
        const auto at = torch::tensor(std::vector<int64_t>(set.begin(), set.end()));
        const auto logits = at::mv(keys.index_select(0, at), queries[static_cast<size_t>(t)]);
        const auto weights = at::softmax(logits / std::sqrt(static_cast<double>(geometry_.head_dim)), 0);
        outputs.push_back(at::mv(values.index_select(0, at).t(), weights));
      }
      by_head.push_back(at::stack(outputs));
    }
    batch_rows.push_back(at::stack(by_head, 1).flatten(1));  // [T, H E]
  }
  return at::linear(at::stack(batch_rows), in_double(output_->named_parameters()["weight"])).unsqueeze(1);
}

Cost BucketAttention::bucket_cost(const Geometry& geometry, const Buckets& buckets, const Sizes& sizes) {
  const auto plan = bucket_plan(buckets.window, geometry.causal, sizes.queries);
  const double batch = sizes.batch, heads = geometry.num_heads, t = sizes.queries, r = buckets.rounds;
  const double d = geometry.head_dim, e = geometry.value_dim, both = d + e, c = plan.chunks.length;
  const double computed = r * static_cast<double>(plan.chunks.padded()) * c * static_cast<double>(plan.count());
  const double projections = 2 * batch * t * static_cast<double>(projection_parameters(geometry));
  Cost cost;
  cost.algorithmic_flops = projections + 2 * batch * heads * r * t * std::min<double>(buckets.window, t) * both;
  cost.executed_flops = projections + 2 * batch * heads * computed * both;
  // Projections, sorted rows with their neighbours, logits and weights, each round's output.
  const double kept = t * both * 2 + t * e + r * t * (d + 2 * e) +
                      r * static_cast<double>(plan.chunks.padded() * plan.count()) * both + 2 * computed;
  cost.activation_bytes = static_cast<int64_t>(float_bytes * batch * heads * kept);
  cost.state_bytes =
      float_bytes * sizes.batch * geometry.num_heads * sizes.keys * (geometry.head_dim + geometry.value_dim);
  return cost;
}

}  // namespace attnscale

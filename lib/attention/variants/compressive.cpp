// Compressive attention: a queue of the latest positions before the own segment, and behind it older ones shortened by
// a strided convolution. Rae et al. 2019, arXiv:1911.05507, section 3.
//
// B batch, H heads, G key-value heads, R = H / G, T queries, n segments of c queries, r compression ratio, N slots,
// W keys that a segment reaches, D key width, E value width

#include <algorithm>
#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "attention/key_value_state.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "attention/segments.h"

namespace attnscale {
namespace {

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over, for t in segment j of length L: its own segment up to t, the m
/// positions before the segment, and the latest `slots` slots of r positions each that lie wholly before those;
/// a slot's key is b + sum_{i<r} k_{jr+i} W_i, its value likewise with weights of its own.
///
/// The paper compresses the hidden states before the projections, ours the heads' keys and values, since a variant
/// receives those. It adds the relative positions of Transformer-XL; here positions are the model's. Its task loss does
/// not reach the compression, nor the memory; ours does, as memory and segment lie in one context.
///
/// In training, `reconstruction_weight` times the attention-reconstruction loss (section 3.2, algorithm 2) is added to
/// the loss: the mean squared difference between what a segment's queries read from the L positions about to leave the
/// queue and from their slots, softmax attention to either alone. Queries, keys and values are constants in it, so that
/// it trains the compression only. (The paper sums over numbers; a mean keeps its size with the model's.)
///
/// Weights are per key-value head and start uniform within 1 / sqrt(fan-in), the biases too.
class CompressiveAttention : public Attention {
 public:
  struct Options {
    int64_t segment = 32, memory = 32, slots = 32, compression = 4;
    double reconstruction_weight = 1;
    static Fields fields() {
      return {field(&Options::segment, "segment", "length of a segment").between(1, 1 << 20).in("positions"),
              field(&Options::memory, "memory", "positions before a segment that are kept as they are")
                  .between(1, 1 << 20)
                  .in("positions"),
              field(&Options::slots, "slots", "length of the compressed memory behind").between(1, 1 << 20).in("slots"),
              field(&Options::compression, "compression", "positions that a slot holds; divides segment and memory")
                  .between(1, 4096)
                  .in("positions"),
              field(&Options::reconstruction_weight, "reconstruction_weight",
                    "factor of the attention-reconstruction loss; 0: none")
                  .at_least(0)};
    }
  };

  CompressiveAttention(const Options& options, const Geometry& geometry) : Attention(geometry), options_(options) {
    const auto made = [&](const std::string& name, int64_t width) {
      const int64_t groups = geometry.num_kv_heads, fan_in = options_.compression * width;
      const auto uniform = [&](at::IntArrayRef sizes) {
        return (at::rand(sizes) * 2 - 1) / std::sqrt(static_cast<double>(fan_in));
      };
      return Compression{register_parameter(name + "_weight", uniform({groups, fan_in, width})),
                         register_parameter(name + "_bias", uniform({groups * width}))};
    };
    key_ = made("key", geometry.head_dim);
    value_ = made("value", geometry.value_dim);
  }

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("compressive", in, geometry_, true);
    const auto plan = plan_for(options_, sizes.queries);
    auto key = in.key, value = in.value;
    if (in.key_padding.defined()) key = key * per_key(in.key_padding), value = value * per_key(in.key_padding);
    const auto real = in.key_padding.defined()
                          ? in.key_padding
                          : at::ones({1, sizes.keys}, torch::dtype(torch::kBool).device(in.key.device()));
    auxiliary_loss_ = Tensor();
    if (is_training() && at::GradMode::is_enabled() && options_.reconstruction_weight > 0)
      auxiliary_loss_ = reconstruction_loss(in.query, key, value, real, plan);
    if (plan.segments.count == 1 && !in.key_padding.defined())
      return softmax_attention(in.query, key, value, /*causal=*/true);

    const auto [n, c] = plan.segments;
    auto reached_key = segment_windows(key, plan.segments, plan.lead);  // [B, G, n, W, D]
    auto reached_value = segment_windows(value, plan.segments, plan.lead);
    auto visible = segment_windows(per_key(real), plan.segments, plan.lead)
                       .squeeze(1)
                       .mT()
                       .logical_and(causal_mask(c, plan.lead + c, key.device()));  // [B or 1, n, c, W]
    if (plan.slots > 0) {
      reached_key = at::cat({slot_windows(compressed(key, key_, plan.made), plan), reached_key}, 3);
      reached_value = at::cat({slot_windows(compressed(value, value_, plan.made), plan), reached_value}, 3);
      const auto present = slot_windows(any_real(real, plan.made).unsqueeze(1).unsqueeze(3), plan).squeeze(1).mT();
      visible = at::cat({present.expand({-1, -1, c, -1}), visible}, 3);
    }
    // Segments stand where heads usually do, so that the fused kernel takes them as they are.
    const auto output = softmax_attention(query_blocks(in.query, sizes.kv_heads, plan.segments).flatten(0, 1),
                                          reached_key.flatten(0, 1), reached_value.flatten(0, 1), false,
                                          mask_for_groups(visible, sizes.kv_heads, sizes.heads / sizes.kv_heads));
    return joined_blocks(output.unflatten(0, {sizes.batch, sizes.kv_heads}), sizes.heads, sizes.queries);
  }

  /// Keys and values of the queue and the open segment, and the slots.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    if (!geometry_.causal) return Attention::new_state(batch, options);
    auto state = empty_key_value_state(geometry_, batch, options);
    state.tensors["key_slots"] = state.tensors.at("key").clone();
    state.tensors["value_slots"] = state.tensors.at("value").clone();
    return state;
  }

  Tensor decode(const Inputs& in, State& state) override {
    const auto sizes = checked_sizes("compressive", in, geometry_, true);
    std::vector<Tensor> outputs;
    for_each_piece(state.length, sizes.queries, options_.segment, [&](int64_t begin, int64_t count) {
      const bool ends = (state.length + begin + count) % options_.segment == 0;
      // Appends to the queue, gives slots and queue as one, then moves on where the segment ends.
      const auto absorb = [&](const Tensor& x, const Compression& compression, Tensor& queue, Tensor& slots) {
        queue = at::cat({queue, x.narrow(2, begin, count)}, 2);
        const auto all = at::cat({slots, queue}, 2);
        const int64_t leaving = ends ? std::max<int64_t>(0, queue.size(2) - options_.memory) : 0;
        if (leaving == 0) return all;
        slots = at::cat({slots, compressed(queue, compression, leaving / options_.compression)}, 2);
        const int64_t kept = std::min(slots.size(2), options_.slots);
        slots = slots.narrow(2, slots.size(2) - kept, kept).clone();
        queue = queue.narrow(2, leaving, queue.size(2) - leaving).clone();
        return all;
      };
      auto& of = state.tensors;
      const auto key = absorb(in.key, key_, of.at("key"), of.at("key_slots"));
      const auto value = absorb(in.value, value_, of.at("value"), of.at("value_slots"));
      outputs.push_back(softmax_attention(in.query.narrow(2, begin, count), key, value, false,
                                          causal_mask(count, key.size(2), key.device())));
    });
    state.length += sizes.queries;
    return at::cat(outputs, 2);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const int64_t r = options_.compression;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    struct Parts {
      std::vector<std::vector<Tensor>> weight;  // by head and position in a slot
      std::vector<Tensor> bias;
    };
    const auto parts_of = [&](const Compression& compression) {
      Parts parts{{}, in_double(compression.bias).chunk(compression.weight.size(0))};
      for (const auto& weight : in_double(compression.weight).unbind(0))
        parts.weight.push_back(weight.reshape({r, weight.size(1), weight.size(1)}).unbind(0));
      return parts;
    };
    const auto key_parts = parts_of(key_), value_parts = parts_of(value_);
    const auto slot = [&](const Rows& x, const Parts& parts, int64_t b, int64_t g, int64_t j) {
      auto sum = parts.bias[g];
      for (int64_t i = 0; i < r; ++i)
        if (is_real(in, b, j * r + i)) sum = sum + at::mv(parts.weight[g][i].t(), x[b][g][j * r + i]);
      return sum;
    };
    struct Slot {
      Tensor key, value;  // undefined without a real position
    };
    std::vector<Slot> slots;  // those made so far
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      if (t == 0) slots.clear();  // a new head begins
      const int64_t oldest = t / options_.segment * options_.segment - options_.memory;
      for (int64_t j = static_cast<int64_t>(slots.size()); (j + 1) * r <= oldest; ++j) {
        bool any = false;
        for (int64_t i = j * r; i < (j + 1) * r; ++i) any = any || is_real(in, b, i);
        slots.push_back(any ? Slot{slot(key, key_parts, b, g, j), slot(value, value_parts, b, g, j)} : Slot{});
      }
      std::vector<Tensor> keys, values;
      const int64_t made = static_cast<int64_t>(slots.size());
      for (int64_t j = std::max<int64_t>(0, made - options_.slots); j < made; ++j)
        if (slots[j].key.defined()) keys.push_back(slots[j].key), values.push_back(slots[j].value);
      for (int64_t i = std::max<int64_t>(0, oldest); i <= t; ++i)
        if (is_real(in, b, i)) keys.push_back(key[b][g][i]), values.push_back(value[b][g][i]);
      return attend(query[b][h][t], keys, values, in.value.size(3));
    });
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    const int64_t oldest = query / options_.segment * options_.segment - options_.memory;
    if (key > query) return false;
    return key >= oldest || key / options_.compression >= oldest / options_.compression - options_.slots;
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    const int64_t d = geometry.head_dim, e = geometry.value_dim;
    return geometry.num_kv_heads * (options.compression * (d * d + e * e) + d + e);
  }

  static std::vector<std::string> refusals(const Options& options, const Geometry&) {
    std::vector<std::string> reasons;
    const auto check = [&](const char* name, int64_t length) {
      if (const int64_t over = length % options.compression; over != 0)
        reasons.push_back(fmt::format("{} {} is not a multiple of compression {}; take {}", name, length,
                                      options.compression, length - over + options.compression));
    };
    check("segment", options.segment);
    check("memory", options.memory);
    return reasons;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto plan = plan_for(options, sizes.queries);
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
    const double d = geometry.head_dim, e = geometry.value_dim, n = plan.segments.count;
    const double rows = plan.segments.padded(), reach = plan.slots + plan.lead + plan.segments.length;
    const double convolution = 2 * batch * groups * plan.made * options.compression * (d * d + e * e);
    double pairs = pairs_within_segments(sizes.queries, options.segment);
    for (int64_t begin = options.segment; begin < sizes.queries; begin += options.segment) {
      const int64_t slots = std::min(options.slots, std::max<int64_t>(0, begin - options.memory) / options.compression);
      pairs += static_cast<double>(std::min(options.segment, sizes.queries - begin)) *
               static_cast<double>(std::min(begin, options.memory) + slots);
    }
    Cost cost;
    cost.algorithmic_flops = convolution + 2 * batch * heads * pairs * (d + e);
    cost.executed_flops = convolution + 2 * batch * heads * rows * reach * (d + e);
    // Gathered keys and values, slots, the mask, one normaliser per query; unequal widths keep the weights too.
    double kept = batch * groups * (n * reach + plan.made) * (d + e) + rows * reach + batch * heads * rows;
    if (d != e) kept += batch * heads * rows * reach;
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    const int64_t begin = sizes.keys / options.segment * options.segment;  // of the open segment
    const int64_t left = std::max<int64_t>(0, begin - options.memory);
    cost.state_bytes =
        key_value_bytes(geometry, sizes.batch, sizes.keys - left + std::min(options.slots, left / options.compression));
    return cost;
  }

 private:
  /// What shortens keys or values of width W.
  struct Compression {
    Tensor weight;  // [G, r W, W]; rows i W .. (i + 1) W take position i of a slot
    Tensor bias;    // [G W]
  };

  struct Plan {
    Blocks segments;
    int64_t lead = 0;   ///< positions of the queue, at most
    int64_t made = 0;   ///< slots of the whole call
    int64_t slots = 0;  ///< of which a segment sees at most this many
  };
  static Plan plan_for(const Options& options, int64_t positions) {
    const auto segments = segments_of(positions, options.segment);
    const int64_t before = (segments.count - 1) * segments.length;  // the last segment
    const int64_t made = std::max<int64_t>(0, before - options.memory) / options.compression;
    return {segments, std::min(options.memory, before), made, std::min(options.slots, made)};
  }

  /// The first `slots` slots, as one product per head: [B, G, at least slots r, W] -> [B, G, slots, W].
  Tensor compressed(const Tensor& x, const Compression& compression, int64_t slots) const {
    const int64_t batch = x.size(0), groups = x.size(1), r = options_.compression, width = x.size(3);
    const auto rows = x.narrow(2, 0, slots * r)
                          .reshape({batch, groups, slots, r * width})
                          .transpose(0, 1)
                          .reshape({groups, batch * slots, r * width});
    return at::baddbmm(compression.bias.view({groups, 1, width}).to(x.scalar_type()), rows,
                       compression.weight.to(x.scalar_type()))
        .reshape({groups, batch, slots, width})
        .transpose(0, 1);
  }

  /// Whether a slot holds a real position: [B or 1, S] -> [B or 1, slots].
  Tensor any_real(const Tensor& real, int64_t slots) const {
    const int64_t r = options_.compression;
    return real.narrow(1, 0, slots * r).reshape({real.size(0), slots, r}).any(-1);
  }

  /// The slots that each segment sees, the newest last: [B, G, N, W] -> [B, G, n, slots, W].
  Tensor slot_windows(const Tensor& x, const Plan& plan) const {
    const int64_t r = options_.compression;
    return pad_positions(x, options_.memory / r + plan.slots, 0).unfold(2, plan.slots, options_.segment / r).mT();
  }

  /// See the class; undefined when no segment of the call loses positions that another one then sees as slots.
  /// key and value are zero where they are not real [B or 1, S].
  Tensor reconstruction_loss(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& real,
                             const Plan& plan) const {
    const int64_t L = options_.segment, r = options_.compression, groups = key.size(1);
    const int64_t first = ceil_div(options_.memory, L), count = plan.segments.count - 1 - first;
    if (count <= 0) return {};
    const int64_t begin = first * L - options_.memory;  // of what leaves while segment `first` reads
    const auto leaving = [&](const Tensor& x) { return x.detach().narrow(2, begin, count * L); };
    const auto cut = [&](const Tensor& x, int64_t length) { return key_blocks(x, {count, length}).flatten(0, 1); };
    const auto mask = [&](const Tensor& seen, int64_t length) {
      return mask_for_groups(seen.view({seen.size(0), count, 1, length}), groups, 1);
    };
    const auto old_real = real.narrow(1, begin, count * L);
    const auto rows = query_blocks(query.detach().narrow(2, first * L, count * L), groups, {count, L}).flatten(0, 1);
    const auto exact = softmax_attention(rows, cut(leaving(key), L), cut(leaving(value), L), false, mask(old_real, L));
    const auto through_slots = softmax_attention(rows, cut(compressed(leaving(key), key_, count * L / r), L / r),
                                                 cut(compressed(leaving(value), value_, count * L / r), L / r), false,
                                                 mask(any_real(old_real, count * L / r), L / r));
    const auto type = accumulation_type(exact.scalar_type());
    return (through_slots.to(type) - exact.to(type)).square().mean() * options_.reconstruction_weight;
  }

  Options options_;
  Compression key_, value_;
};

const Register<CompressiveAttention> register_compressive{{
    .name = "compressive",
    .family = "memory-compressed",
    .summary = "own segment, a queue of positions before it, and older ones shortened by a convolution",
    .equation =
        "y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the own segment up to t, `memory` positions before "
        "it and the latest `slots` of k'_j = b + sum_{i<r} k_{jr+i} W_i before those",
    .source = "Rae et al. 2019, arXiv:1911.05507, section 3; keys and values compressed in place of hidden states",
    .traits = {Trait::causal, Trait::padding, Trait::incremental, Trait::grouped_heads},
    .time_complexity = "T (segment + memory + slots)",
    .state_complexity = "segment + memory + slots",
    .samples = {Json{{"segment", 8}, {"memory", 16}, {"slots", 5}},
                Json{{"segment", 16}, {"memory", 12}, {"slots", 3}, {"compression", 2}}},
    .equalities = {{.statement = "one segment is softmax", .options = {{"segment", 68}}, .other = "softmax"},
                   {.statement = "a queue that reaches the beginning is softmax",
                    .options = {{"segment", 16}, {"memory", 64}},
                    .other = "softmax"}},
}};

}  // namespace
}  // namespace attnscale

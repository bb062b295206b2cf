// Memory-compressed attention: keys and values are shortened by a strided convolution before softmax
// attention. Liu et al. 2018, arXiv:1801.10198, section 4.2.3.
//
// B batch, H heads, G key-value heads, T queries, S keys, c compression, M slots, D key width, E value width
//
// Not here: the local attention that the paper alternates with, which is another variant.

#include <cmath>

#include <ATen/ops/arange.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/generated/variable_factories.h>

#include "attention/blocks.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_j softmax_j(q_t . k'_j / sqrt(D)) v'_j over a null pair and the slots that t sees;
/// k'_j = b + sum_{i<c} k_{jc+i} W_i, and v' likewise with its own weights.
///
/// Causal: slot j is seen once it is complete, from position (j + 1) c - 1 on; the own position is seen only
/// there. Bidirectional: the last slot is filled up with zeros. Padded keys are zeros to the
/// convolution, and a slot without a real key is hidden. The learnt null pair gives queries before
/// the first complete slot something to read; it is not in the paper, which does not say what they do.
///
/// Weights are per key-value head. They and the biases start uniform within 1 / sqrt(fan-in), the
/// usual choice for convolutions; the null pair starts at zero.
class MemoryCompressed : public Attention {
 public:
  struct Options {
    int64_t compression = 3;
    static Fields fields() {
      return {field(&Options::compression, "compression", "positions that one slot holds: kernel and stride")
                  .between(1, 4096)
                  .in("positions")};
    }
  };

  MemoryCompressed(const Options& options, const Geometry& geometry) : Attention(geometry), options_(options) {
    const auto made = [&](const std::string& name, int64_t width) {
      const int64_t groups = geometry.num_kv_heads, fan_in = options_.compression * width;
      const auto uniform = [&](at::IntArrayRef sizes) {
        return (torch::rand(sizes) * 2 - 1) / std::sqrt(static_cast<double>(fan_in));
      };
      return Memory{register_parameter(name + "_weight", uniform({groups, fan_in, width})),
                    register_parameter(name + "_bias", uniform({groups * width})),
                    register_parameter("null_" + name, torch::zeros({groups * width}))};
    };
    key_ = made("key", geometry.head_dim);
    value_ = made("value", geometry.value_dim);
  }

  Tensor forward(const Inputs& in) override {
    const auto sizes = checked_sizes("memory_compressed", in, geometry_, geometry_.causal);
    const int64_t c = options_.compression, slots = num_slots(options_, geometry_.causal, sizes.keys);
    auto key = in.key, value = in.value;
    Tensor real;  // [B, M]
    if (in.key_padding.defined()) {
      key = key * per_key(in.key_padding);
      value = value * per_key(in.key_padding);
      real = pad_positions(in.key_padding.unsqueeze(-1), 0, slots * c - sizes.keys)
                 .reshape({sizes.batch, slots, c})
                 .any(-1);
    }
    // Causal crops the incomplete last slot, bidirectional fills it up.
    key = compressed(pad_positions(key, 0, slots * c - sizes.keys), key_);
    value = compressed(pad_positions(value, 0, slots * c - sizes.keys), value_);
    return attend(in.query, key, value, 0, real);
  }

  /// Slots so far, and the raw keys and values of the slot that is still open.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    if (!geometry_.causal) return Attention::new_state(batch, options);
    const auto empty = [&](int64_t width) { return at::empty({batch, geometry_.num_kv_heads, 0, width}, options); };
    return {.tensors = {{"key_slots", empty(geometry_.head_dim)},
                        {"value_slots", empty(geometry_.value_dim)},
                        {"open_keys", empty(geometry_.head_dim)},
                        {"open_values", empty(geometry_.value_dim)}}};
  }

  Tensor decode(const Inputs& in, State& state) override {
    const auto sizes = checked_sizes("memory_compressed", in, geometry_, true);
    const auto absorb = [&](const Tensor& x, const Memory& memory, Tensor& slots, Tensor& open) {
      const auto raw = at::cat({open, x}, 2);
      const int64_t complete = raw.size(2) / options_.compression * options_.compression;
      slots = at::cat({slots, compressed(raw.narrow(2, 0, complete), memory)}, 2);
      open = raw.narrow(2, complete, raw.size(2) - complete).clone();
    };
    auto& of = state.tensors;
    absorb(in.key, key_, of.at("key_slots"), of.at("open_keys"));
    absorb(in.value, value_, of.at("value_slots"), of.at("open_values"));
    const int64_t first = state.length;
    state.length += sizes.queries;
    return attend(in.query, of.at("key_slots"), of.at("value_slots"), first, {});
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const int64_t c = options_.compression, keys = in.key.size(2);
    // Per head: the matrix of each position of a slot, the bias, the null row.
    struct Parts {
      std::vector<std::vector<Tensor>> weight;
      std::vector<Tensor> bias, null;
    };
    const auto parts_of = [&](const Memory& memory) {
      Parts parts{
          {}, in_double(memory.bias).chunk(memory.weight.size(0)), in_double(memory.null).chunk(memory.weight.size(0))};
      for (const auto& weight : in_double(memory.weight).unbind(0))
        parts.weight.push_back(weight.reshape({c, weight.size(1), weight.size(1)}).unbind(0));
      return parts;
    };
    const auto key_parts = parts_of(key_), value_parts = parts_of(value_);
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    // Slot j of a head: bias and one term per real position.
    const auto slot = [&](const Rows& x, const Parts& parts, int64_t b, int64_t g, int64_t j) {
      auto sum = parts.bias[g];
      for (int64_t i = 0; i < c && j * c + i < keys; ++i)
        if (is_real(in, b, j * c + i)) sum = sum + at::mv(parts.weight[g][i].t(), x[b][g][j * c + i]);
      return sum;
    };
    std::vector<Tensor> slot_keys, slot_values;
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      if (t == 0) {  // a new head begins
        slot_keys = {key_parts.null[g]};
        slot_values = {value_parts.null[g]};
      }
      for (int64_t j = 0; j * c < keys; ++j) {
        bool any_real = false;
        for (int64_t i = j * c; i < std::min(keys, (j + 1) * c); ++i) any_real = any_real || is_real(in, b, i);
        const bool arrives = geometry_.causal ? t == (j + 1) * c - 1 : t == 0;  // seen by all later queries
        if (!arrives || !any_real) continue;
        slot_keys.push_back(slot(key, key_parts, b, g, j));
        slot_values.push_back(slot(value, value_parts, b, g, j));
      }
      return oracle::attend(query[b][h][t], slot_keys, slot_values, in.value.size(3));
    });
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    const int64_t slot_end = (key / options_.compression + 1) * options_.compression - 1;
    return !geometry_.causal || slot_end <= query;
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    const int64_t d = geometry.head_dim, e = geometry.value_dim;
    return geometry.num_kv_heads * (options.compression * (d * d + e * e) + 2 * (d + e));
  }

  static std::vector<std::string> refusals(const Options& options, const Geometry& geometry) {
    if (options.compression <= geometry.context) return {};
    return {
        fmt::format("compression {} exceeds the context {}, so that no slot would ever be complete; take at most {}",
                    options.compression, geometry.context, geometry.context)};
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const int64_t c = options.compression, slots = num_slots(options, geometry.causal, sizes.keys);
    const double batch = sizes.batch, heads = geometry.num_heads, groups = geometry.num_kv_heads;
    const double queries = sizes.queries, d = geometry.head_dim, e = geometry.value_dim;
    const double convolution = 2 * batch * groups * slots * c * (d * d + e * e);
    double pairs = queries * (1 + slots);
    if (geometry.causal) {  // query t sees the null pair and floor((t + 1) / c) slots
      const double full = sizes.queries / c, rest = sizes.queries % c;
      pairs = queries + full * (full - 1) / 2 * c + full * (rest + 1);
    }
    Cost cost;
    cost.algorithmic_flops = convolution + 2 * batch * heads * pairs * (d + e);
    cost.executed_flops = convolution + 2 * batch * heads * queries * (1 + slots) * (d + e);
    // Convolution input by slot, slots, the mask, one normaliser per query; unequal widths keep the weights too.
    double kept = batch * groups * slots * c * (d + e) + batch * groups * (1 + slots) * (d + e) +
                  queries * (1 + slots) + batch * heads * queries;
    if (geometry.head_dim != geometry.value_dim) kept += batch * heads * queries * (1 + slots);
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    cost.state_bytes = float_bytes * sizes.batch * geometry.num_kv_heads * (sizes.keys / c + sizes.keys % c) *
                       (geometry.head_dim + geometry.value_dim);
    return cost;
  }

 private:
  /// What shortens keys or values of width W.
  struct Memory {
    Tensor weight;  // [G, c W, W]; rows i W .. (i + 1) W take position i of a slot
    Tensor bias;    // [G W]
    Tensor null;    // [G W]
  };

  static int64_t num_slots(const Options& options, bool causal, int64_t keys) {
    return causal ? keys / options.compression : ceil_div(keys, options.compression);
  }

  /// The convolution as one product per head: [B, G, M c, W] -> [B, G, M, W].
  Tensor compressed(const Tensor& x, const Memory& memory) const {
    const int64_t batch = x.size(0), groups = x.size(1), slots = x.size(2) / options_.compression, width = x.size(3);
    if (slots == 0) return x;
    const auto blocks = x.reshape({batch, groups, slots, options_.compression * width})
                            .transpose(0, 1)
                            .reshape({groups, batch * slots, options_.compression * width});  // [G, B M, c W]
    return at::baddbmm(memory.bias.view({groups, 1, width}), blocks, memory.weight)
        .reshape({groups, batch, slots, width})
        .transpose(0, 1);
  }

  /// Queries from position `first` on, over the null pair and slots [B, G, M, D or E].
  Tensor attend(const Tensor& query, const Tensor& key_slots, const Tensor& value_slots, int64_t first,
                const Tensor& real) const {
    const auto with_null = [](const Memory& memory, const Tensor& slots) {
      return at::cat({memory.null.view({slots.size(1), 1, -1}).expand({slots.size(0), -1, 1, -1}), slots},
                     2);  // [B, G, 1 + M, D or E]
    };
    Tensor visible;
    if (geometry_.causal) {
      const auto options = torch::TensorOptions().dtype(torch::kInt64).device(query.device());
      const auto complete = at::arange(first + 1, first + 1 + query.size(2), options)
                                .div(options_.compression, "floor")
                                .unsqueeze(1);                            // [T, 1]
      visible = at::arange(key_slots.size(2) + 1, options).le(complete);  // [T, 1 + M], column 0 is the null pair
    }
    const auto seen = real.defined() ? at::constant_pad_nd(real, {1, 0}, 1) : real;  // [B, 1 + M]
    return softmax_attention(query, with_null(key_, key_slots), with_null(value_, value_slots), false,
                             visible_keys(visible, seen));
  }

  Options options_;
  Memory key_, value_;
};

const Register<MemoryCompressed> register_memory_compressed{{
    .name = "memory_compressed",
    .family = "memory-compressed",
    .summary = "softmax over keys and values shortened by a strided convolution, and a null pair",
    .equation = "y_t = sum_j softmax_j(q_t . k'_j / sqrt(D)) v'_j over a null pair and slots j < floor((t + 1) / c); "
                "k'_j = b + sum_{i<c} k_{jc+i} W_i, v' likewise",
    .source = "Liu et al. 2018, arXiv:1801.10198, section 4.2.3; the null pair is ours",
    .traits = {Trait::causal, Trait::bidirectional, Trait::cross, Trait::padding, Trait::incremental,
               Trait::grouped_heads},
    .time_complexity = "T^2 / compression",
    .state_complexity = "T / compression",
    .samples = {Json{{"compression", 2}}, Json{{"compression", 8}}},
}};

}  // namespace
}  // namespace attnscale

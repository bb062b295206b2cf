// Log-linear attention: the past is kept in a state for each level of a Fenwick tree, near positions finely and far
// ones coarsely, and each query weighs the levels. Guo et al. 2025, arXiv:2506.04761, section 3, in its Mamba-2 form.
//
// B batch, H heads, T positions, n chunks of c positions, L levels, D key width, E value width

#include <bit>
#include <cmath>
#include <limits>

#include <ATen/ops/arange.h>
#include <ATen/ops/bitwise_xor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "attention/kernel_oracle.h"
#include "attention/recurrent_attention.h"
#include "attention/registry.h"
#include "core/error.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

/// Where key s stands in query t's tree: 0 for itself, otherwise the length of t xor s in bits. A level l > 0 is a
/// finished block of 2^(l - 1) positions.
int64_t fenwick_level(int64_t t, int64_t s) { return std::bit_width(static_cast<uint64_t>(t ^ s)); }

/// Numbers of levels among so many positions.
int64_t fenwick_levels(int64_t positions) { return fenwick_level(positions - 1, 0) + 1; }

/// y_t = sum_{s<=t} lambda_t[level(t, s)] exp(A (d_{s+1} + .. + d_t)) d_s (q_t . k_s) v_s + skip v_t, with
/// lambda_t = softplus(levels_t), d_t = softplus(step_t + step_bias), A = -exp(log_rate).
///
/// With all lambdas one it is `state_space`, whose parameters it shares. Levels go by position, also past padded ones,
/// which neither write nor make anything decay.
/// Inside a chunk as a masked product; above, each finished block's state is met by the block right of it, level by
/// level. Lengths are padded to a power of two of chunks.
class LogLinear : public Attention {
 public:
  struct Options {
    int64_t chunk_length = 64;
    static Fields fields() {
      return {field(&Options::chunk_length, "chunk_length",
                    "longest chunk, rounded down to a power of two; changes speed and rounding, not the result")
                  .between(1, 65536)
                  .in("positions")};
    }
  };

  LogLinear(const Options& options, const Geometry& geometry)
      : Attention(geometry),
        options_(options),
        log_rate_(register_parameter("log_rate", initial_log_rate(geometry.num_heads))),
        step_bias_(register_parameter("step_bias", initial_step_bias(geometry.num_heads))),
        skip_(register_parameter("skip", at::ones({geometry.num_heads}))) {}

  Tensor forward(const Inputs& in) override {
    const FullPrecision sums_stay_float32;
    const auto sizes = checked_sizes("log_linear", in, geometry_, true);
    check_context(sizes.queries);
    const auto x = prepared(in);
    return (tree_sums(x) + skip_.to(x.query.dtype()).view({-1, 1, 1}) * x.skipped).to(in.value.scalar_type());
  }

  /// `blocks` [B, H, bits of length, D, E]: entry j is the finished block of 2^j positions, zero where there is none.
  State new_state(int64_t batch, torch::TensorOptions options) const override {
    const auto type = accumulation_type(c10::typeMetaToScalarType(options.dtype()));
    return {.tensors = {{"blocks", at::zeros({batch, geometry_.num_heads, 0, geometry_.head_dim, geometry_.value_dim},
                                             options.dtype(type))}}};
  }

  /// Position by position: each one may close a block of another level.
  Tensor decode(const Inputs& in, State& state) override {
    const FullPrecision sums_stay_float32;
    const auto sizes = checked_sizes("log_linear", in, geometry_, true);
    check_context(state.length + sizes.queries);
    const auto x = prepared(in);
    auto& carried = state.tensors.at("blocks");
    auto blocks = carried.unbind(2);  // each [B, H, D, E]
    std::vector<Tensor> outputs;
    for (int64_t i = 0; i < sizes.queries; ++i) {
      const auto at_i = [i](const Tensor& y) { return y.narrow(2, i, 1); };
      const auto query = at_i(x.query), decay = at_i(x.log_decay).exp(), weights = at_i(x.levels);
      auto own = at::matmul(at_i(x.key).mT(), at_i(x.value));  // [B, H, D, E]
      auto sum = at::matmul(query, own) * weights.narrow(-1, 0, 1);
      for (size_t j = 0; j < blocks.size(); ++j) {
        blocks[j] = blocks[j] * decay;
        sum = sum + at::matmul(query, blocks[j]) * weights.narrow(-1, static_cast<int64_t>(j) + 1, 1);
      }
      outputs.push_back(sum);
      // As when one is added to a binary number: full places are emptied into the next free one.
      size_t j = 0;
      for (; j < blocks.size() && (state.length >> j) % 2 == 1; ++j) {
        own = own + blocks[j];
        blocks[j] = at::zeros_like(own);
      }
      if (j == blocks.size()) blocks.push_back(own);
      else blocks[j] = own;
      ++state.length;
    }
    carried = at::stack(blocks, 2);
    const auto skipped = skip_.to(x.query.dtype()).view({-1, 1, 1}) * x.skipped;
    return (at::cat(outputs, 2) + skipped).to(in.value.scalar_type());
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto by_head = [](const Tensor& x) { return in_double(x).view({-1, 1, 1}); };
    const auto steps = (in_double(in.gates.at("step")) + by_head(step_bias_)).exp().log1p().squeeze(-1);  // [B, H, T]
    const auto rate = in_double(log_rate_).exp().unbind(0);
    const auto levels = rows_of(in_double(in.gates.at("levels")).exp().log1p());
    auto outputs = kernel_mean(
        in, true,
        [&](const Tensor& q, int64_t t, const SeenKeys& seen) {
          const auto d = steps[seen.batch][seen.head].index_select(0, seen.positions);  // [n]
          const auto since = d.sum() - d.cumsum(0);                                     // of the steps after each key
          std::vector<int64_t> level;
          for (int64_t i = 0; i < seen.positions.size(0); ++i)
            level.push_back(fenwick_level(t, seen.positions[i].item<int64_t>()));
          const auto lambda =
              levels[seen.batch][seen.head][t].index_select(0, torch::tensor(level, seen.positions.options()));
          return lambda * (-rate[seen.head] * since).exp() * d * at::mv(seen.keys, q);
        },
        [](const Tensor& sum) { return at::ones_like(sum); });
    auto value = in_double(in.value);
    if (in.key_padding.defined()) value = value * per_key(in.key_padding);
    return outputs + by_head(skip_) * value;
  }

  static std::vector<Gate> gates(const Options&, const Geometry& geometry) {
    return {{"step", 1}, {"levels", fenwick_levels(geometry.context)}};
  }

  static int64_t parameter_count(const Options&, const Geometry& geometry) { return 3 * geometry.num_heads; }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto [n, c] = plan(options, sizes.queries);
    const double heads = static_cast<double>(sizes.batch) * geometry.num_heads, levels = std::countr_zero(uint64_t(n));
    const double d = geometry.head_dim, e = geometry.value_dim, positions = static_cast<double>(n * c);
    Cost cost;
    // Each position writes once and reads a state for each level.
    cost.algorithmic_flops = 2 * heads * sizes.queries * d * e * (1 + fenwick_levels(sizes.queries));
    cost.executed_flops = 2 * heads * positions * c * (d + e);
    double kept = heads * positions * (4 * c + 3 * e + d);
    if (n > 1) {
      cost.executed_flops += heads * positions * d * e * (2 + levels);
      kept += heads * (positions * levels * 2 * e + n * 2 * d * e);
    }
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    const int64_t places = std::bit_width(static_cast<uint64_t>(sizes.keys));
    cost.state_bytes = float_bytes * sizes.batch * geometry.num_heads * places * geometry.head_dim * geometry.value_dim;
    return cost;
  }

 private:
  struct Prepared {
    Tensor query, key, value;  // values times their step
    Tensor skipped;            // values
    Tensor log_decay;          // [B, H, T, 1]
    Tensor levels;             // [B, H, T, L]
  };

  Prepared prepared(const Inputs& in) const {
    const auto type = accumulation_type(in.value.scalar_type());
    const auto masked = [&](const Tensor& x) { return in.key_padding.defined() ? x * per_key(in.key_padding) : x; };
    const auto by_head = [&](const Tensor& x) { return x.to(type).view({-1, 1, 1}); };
    const auto step = masked(at::softplus(in.gates.at("step").to(type) + by_head(step_bias_)));  // [B, H, T, 1]
    const auto value = masked(in.value.to(type));
    return {in.query.to(type),
            masked(in.key.to(type)),
            value * step,
            value,
            -by_head(log_rate_).exp() * step,
            at::softplus(in.gates.at("levels").to(type))};
  }

  /// Chunks of a power of two of positions, a power of two of them.
  static Blocks plan(const Options& options, int64_t positions) {
    const auto bits = [](int64_t x) { return static_cast<uint64_t>(x); };
    const auto c =
        static_cast<int64_t>(std::min(std::bit_ceil(bits(positions)), std::bit_floor(bits(options.chunk_length))));
    return {static_cast<int64_t>(std::bit_ceil(bits(ceil_div(positions, c)))), c};
  }

  void check_context(int64_t positions) const {
    if (positions > geometry_.context)
      throw ShapeError(fmt::format("log_linear: {} positions, but its levels reach {}; raise the context to {}",
                                   positions, geometry_.context, positions));
  }

  Tensor tree_sums(const Prepared& x) const {
    const int64_t positions = x.query.size(2);
    const auto blocks = plan(options_, positions);
    const auto [n, c] = blocks;
    const auto query = key_blocks(x.query, blocks), key = key_blocks(x.key, blocks);  // [B, H, n, c, D]
    const auto value = key_blocks(x.value, blocks);                                   // [B, H, n, c, E]
    const auto log_decay = key_blocks(x.log_decay, blocks), lambda = key_blocks(x.levels, blocks);
    // In float64, as only differences are used: float32 would lose small decays behind a strong one.
    const auto sum = log_decay.cumsum(3, torch::kFloat64);  // [B, H, n, c, 1]
    const auto factor = [&](const Tensor& log) { return log.to(x.value.scalar_type()).exp(); };

    // Inside a chunk: levels by the positions' bits below c.
    const auto place = at::arange(c, x.query.options().dtype(torch::kInt64));
    std::vector<int64_t> level;
    for (int64_t t = 0; t < c; ++t)
      for (int64_t s = 0; s < c; ++s) level.push_back(fenwick_level(t, s));
    const auto index =
        torch::tensor(level, place.options()).view({c, c}).expand({lambda.size(0), lambda.size(1), n, c, c});
    const auto later = at::ones({c, c}, place.options().dtype(torch::kBool)).triu(1);
    const auto between = factor((sum - sum.mT()).masked_fill(later, -std::numeric_limits<double>::infinity()));
    auto outputs = at::matmul(at::matmul(query, key.mT()) * between * lambda.gather(-1, index), value);
    if (n == 1) return joined_blocks(outputs, x.query.size(1), positions);

    // Above: the state of each block, decayed to its end, and what is left of it at each position of the next block.
    const auto last = sum.narrow(3, c - 1, 1);
    auto states = at::matmul((key * factor(last - sum)).mT(), value);  // [B, H, blocks, D, E]
    auto ends = last;                                                  // [B, H, blocks, 1, 1]
    const auto whole = [](const Tensor& y) { return y.flatten(2, 3); };
    auto all = whole(outputs);  // [B, H, n c, E]
    const auto flat_query = whole(query), flat_decay = whole(log_decay), flat_lambda = whole(lambda);
    for (int64_t half = c; half < n * c; half *= 2) {
      const auto part = [&](const Tensor& y, int64_t side) {  // [B, H, pairs, half, width]
        return y.unflatten(2, {-1, 2, half}).select(3, side);
      };
      const auto pairs = [](const Tensor& y, int64_t side) { return y.unflatten(2, {-1, 2}).select(3, side); };
      const auto weight =
          part(flat_lambda, 1).narrow(-1, fenwick_level(half, 0), 1) * factor(part(flat_decay, 1).cumsum(3));
      const auto met = at::matmul(part(flat_query, 1), pairs(states, 0)) * weight;
      all = at::stack({part(all, 0), part(all, 1) + met}, 3).flatten(2, 4);
      states = pairs(states, 1) + factor(pairs(ends, 1)) * pairs(states, 0);
      ends = pairs(ends, 0) + pairs(ends, 1);
    }
    return all.narrow(2, 0, positions);
  }

  Options options_;
  Tensor log_rate_, step_bias_, skip_;
};

Inputs with_levels_of_one(const Inputs& in) {
  auto result = in;
  result.gates["levels"] = at::full_like(in.gates.at("levels"), std::log(std::exp(1.0) - 1));
  return result;
}

const Register<LogLinear> register_log_linear{{
    .name = "log_linear",
    .family = "linear",
    .summary = "a state for each level of a Fenwick tree over the past, which each query weighs",
    .equation = "y_t = sum_{s<=t} lambda_t[level(t, s)] exp(A (d_{s+1} + .. + d_t)) d_s (q_t . k_s) v_s + skip v_t, "
                "lambda_t = softplus(levels_t), level(t, s) = bits of (t xor s)",
    .source = "Guo et al. 2025, arXiv:2506.04761, section 3; decays of Mamba-2",
    .traits = {Trait::causal, Trait::padding, Trait::incremental},
    .float32_sums = Float32Sums::always,
    .time_complexity = "T log T D E",
    .state_complexity = "D E log T",
    .samples = {Json{{"chunk_length", 16}}},
    .equalities = {{.statement = "with all levels weighed one it is state_space",
                    .other = "state_space",
                    .inputs = with_levels_of_one}},
}};

}  // namespace
}  // namespace attnscale

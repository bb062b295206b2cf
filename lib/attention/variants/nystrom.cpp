// Nystrom attention: the softmax matrix is rebuilt from its products with a few landmarks, which are means of
// segments of queries and of keys. Xiong et al. 2021, arXiv:2102.03902, section 3.2.
//
// B batch, H heads, G key-value heads, T queries, S keys, m query landmarks, n key landmarks,
// D key width, E value width
//
// Not here: the depthwise convolution of the values that the paper adds to the output as a skip connection.

#include <algorithm>
#include <vector>

#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "attention/blocks.h"
#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/registry.h"
#include "tensor/full_precision.h"

namespace attnscale {
namespace {

/// y = softmax(q K~^T / sqrt(D)) Z softmax(Q~ k^T / sqrt(D)) v, Z = pinv(A), A = softmax(Q~ K~^T / sqrt(D)).
///
/// Landmarks Q~ and K~ are the means of segments of ceil(S / landmarks) neighbouring positions; the last segment may be
/// shorter (the paper wants lengths that divide). T queries get as many segments as T has, cut by the same rule.
///
/// Z by `pinv_iterations` steps of the paper's equation 11, Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4, from
/// Z_0 = A^T / (|A|_1 |A|_inf) of each matrix by itself. (Two public implementations take that norm's maximum over
/// the whole batch and all heads, so that a row's output depends on its mates.) `exact_inverse` takes the
/// Moore-Penrose inverse by singular values instead.
///
/// Padded positions are left out of the means; a segment without real positions is no landmark. With T = S padding
/// holds for the queries too. There is no causal form: every landmark mixes positions of a whole segment.
///
/// Products go from the right, so that nothing of T x landmarks is kept; in float32 under bfloat16.
class Nystrom : public Attention {
 public:
  struct Options {
    int64_t landmarks = 64;
    int64_t pinv_iterations = 6;
    bool exact_inverse = false;
    static Fields fields() {
      return {field(&Options::landmarks, "landmarks", "most segments whose means stand for all queries and keys")
                  .at_least(1),
              field(&Options::pinv_iterations, "pinv_iterations",
                    "steps of the pseudo-inverse; more are more exact until rounding grows (3.25 times a step)")
                  .between(1, 20),
              field(&Options::exact_inverse, "exact_inverse",
                    "the pseudo-inverse by singular values, and no steps; slow, for comparison")};
    }
  };

  Nystrom(const Options& options, const Geometry& geometry) : Attention(geometry), options_(options) {}

  Tensor forward(const Inputs& in) override {
    const FullPrecision sums_stay_float32;
    const auto sizes = checked_sizes("nystrom", in, geometry_, false);
    const auto type = accumulation_type(in.value.scalar_type());
    const auto query = in.query.to(type), key = in.key.to(type), value = in.value.to(type);
    const bool queries_padded = in.key_padding.defined() && sizes.queries == sizes.keys;
    const auto of_query = landmarks_of(query, queries_padded ? in.key_padding : Tensor());
    const auto of_key = landmarks_of(key, in.key_padding);
    const auto landmark_keys = repeat_heads(of_key.mean, sizes.heads);  // [B, H, n, D]

    const double scale = 1 / std::sqrt(static_cast<double>(sizes.key_width));
    auto logits = at::matmul(of_query.mean * scale, landmark_keys.mT());  // [B, H, m, n]
    if (of_key.hidden.defined()) logits = logits.masked_fill(of_key.hidden.mT(), lowest_of(type));
    auto kernel = at::softmax(logits, -1);  // A
    // Rows and columns of zeros keep to themselves in products and inverse.
    if (of_key.hidden.defined()) kernel = kernel.masked_fill(of_key.hidden.mT(), 0);
    if (of_query.hidden.defined()) kernel = kernel.masked_fill(of_query.hidden, 0);

    const auto summaries =
        softmax_attention(of_query.mean, key, value, false, visible_keys({}, in.key_padding));  // [B, H, m, E]
    const auto rebuilt = at::matmul(inverse(kernel), summaries);                                // [B, H, n, E]
    const auto visible = of_key.hidden.defined() ? of_key.hidden.logical_not().mT() : Tensor();
    return softmax_attention(query, landmark_keys, rebuilt, false, visible).to(in.value.scalar_type());
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto query = rows_of(in.query), key = rows_of(in.key), value = rows_of(in.value);
    const int64_t queries = in.query.size(2), keys = in.key.size(2);
    const auto means = [&](const std::vector<Tensor>& rows, int64_t b, bool padded) {
      std::vector<Tensor> result;
      const int64_t positions = std::ssize(rows), length = segment_length(positions);
      for (int64_t from = 0; from < positions; from += length) {
        std::vector<Tensor> segment;
        for (int64_t i = from; i < std::min(from + length, positions); ++i)
          if (!padded || is_real(in, b, i)) segment.push_back(rows[i]);
        if (!segment.empty()) result.push_back(at::stack(segment).mean(0));
      }
      return result;
    };
    std::vector<Tensor> landmark_keys, rebuilt;
    return for_each_query(in, [&](int64_t b, int64_t h, int64_t g, int64_t t) {
      if (t == 0) {  // a new head begins
        rebuilt.clear();
        landmark_keys = means(key[b][g], b, true);
        std::vector<Tensor> real_keys, real_values, kernel, summaries;
        for (int64_t i = 0; i < keys; ++i) {
          if (!is_real(in, b, i)) continue;
          real_keys.push_back(key[b][g][i]);
          real_values.push_back(value[b][g][i]);
        }
        if (!real_keys.empty()) {
          const auto landmarks = at::stack(landmark_keys);
          for (const auto& landmark : means(query[b][h], b, queries == keys)) {
            kernel.push_back(at::softmax(at::mv(landmarks, landmark) / std::sqrt(landmark.size(0)), 0));
            summaries.push_back(attend(landmark, real_keys, real_values, in.value.size(3)));
          }
          rebuilt = at::matmul(oracle_inverse(at::stack(kernel)), at::stack(summaries)).unbind(0);
        }
      }
      return attend(query[b][h][t], landmark_keys, rebuilt, in.value.size(3));
    });
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const auto count = [&](int64_t positions) {
      return even_blocks(positions, ceil_div(positions, options.landmarks)).count;
    };
    const double rows = static_cast<double>(sizes.batch * geometry.num_heads), queries = sizes.queries;
    const double d = geometry.head_dim, e = geometry.value_dim, m = count(sizes.queries), n = count(sizes.keys);
    const double inverse =
        options.exact_inverse ? 2 * n * std::min(m, n) * m : options.pinv_iterations * (4 * m * m * n + 4 * m * m * m);
    Cost cost;
    cost.executed_flops =
        rows * (2 * m * n * d + 2 * m * sizes.keys * (d + e) + inverse + 2 * n * m * e + 2 * queries * n * (d + e));
    cost.algorithmic_flops = cost.executed_flops;
    double kept = rows * (m * d + n * (d + e) + m * e + 2 * m * n + m + queries);
    if (!options.exact_inverse) kept += rows * options.pinv_iterations * (4 * m * m + m * n);
    if (d != e) kept += rows * (m * sizes.keys + queries * n);  // without the fused kernel
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    return cost;
  }

 private:
  int64_t segment_length(int64_t positions) const {
    return even_blocks(positions, ceil_div(positions, options_.landmarks)).length;
  }

  /// So low that its weight is exactly zero, and finite even where it is all that a row has.
  static double lowest_of(torch::ScalarType type) { return type == torch::kFloat64 ? -1e300 : -1e37; }

  struct Landmarks {
    Tensor mean;    // [B, H or G, m, D]
    Tensor hidden;  // bool [B, 1, m, 1]: without a real position; undefined without padding
  };
  Landmarks landmarks_of(const Tensor& x, const Tensor& padding) const {
    const int64_t positions = x.size(2);
    const auto blocks = even_blocks(positions, ceil_div(positions, options_.landmarks));
    const auto real = padding.defined() ? padding : at::ones({1, positions}, x.options().dtype(torch::kBool));
    const auto counts = pad_positions(real.unsqueeze(-1).to(x.scalar_type()), 0, blocks.padded() - positions)
                            .view({-1, 1, blocks.count, blocks.length})
                            .sum(-1, /*keepdim=*/true);  // [B or 1, 1, m, 1]
    const auto masked = padding.defined() ? x * per_key(padding) : x;
    const auto mean = key_blocks(masked, blocks).sum(3) / counts.clamp_min(1);
    return {mean, padding.defined() ? counts.eq(0) : Tensor()};
  }

  /// [B, H, m, n] -> [B, H, n, m]
  Tensor inverse(const Tensor& a) const {
    if (options_.exact_inverse) return at::linalg_pinv(a);
    const auto norm = a.sum(-2).amax(-1) * a.sum(-1).amax(-1);  // [B, H]; entries are not negative
    auto z = a.mT() / (norm + norm.eq(0)).unsqueeze(-1).unsqueeze(-1);
    const auto one = at::eye(a.size(-2), a.options());
    for (int64_t i = 0; i < options_.pinv_iterations; ++i) {
      const auto az = at::matmul(a, z);  // [B, H, m, m]
      z = at::matmul(z, 3.25 * one - at::matmul(az, 3.75 * one - at::matmul(az, 1.75 * one - 0.25 * az)));
    }
    return z;
  }

  /// The same for one matrix [m, n], written as in the paper.
  Tensor oracle_inverse(const Tensor& a) const {
    if (options_.exact_inverse) return at::linalg_pinv(a);
    auto z = a.t() / (a.abs().sum(0).max() * a.abs().sum(1).max());
    const auto identity = at::eye(a.size(0), a.options());
    for (int64_t i = 0; i < options_.pinv_iterations; ++i) {
      const auto inner = a.mm(z).mm(7 * identity - a.mm(z));
      z = z.mm(13 * identity - a.mm(z).mm(15 * identity - inner)) / 4;
    }
    return z;
  }

  Options options_;
};

const Register<Nystrom> register_nystrom{{
    .name = "nystrom",
    .family = "low-rank",
    .summary = "softmax rebuilt from landmarks, the means of segments, through a pseudo-inverse; without the "
               "depthwise convolution beside it",
    .equation = "y = softmax(q K~^T / sqrt(D)) pinv(softmax(Q~ K~^T / sqrt(D))) softmax(Q~ k^T / sqrt(D)) v, "
                "Q~ and K~ means of segments",
    .source = "Xiong et al. 2021, arXiv:2102.03902, section 3.2, equations 9 to 13; without the convolution",
    .traits = {Trait::bidirectional, Trait::cross, Trait::padding, Trait::grouped_heads},
    .float32_sums = Float32Sums::always,
    .time_complexity = "T landmarks (D + E) + landmarks^3",
    .state_complexity = "none",
    .samples = {Json{{"landmarks", 8}}, Json{{"landmarks", 4}, {"exact_inverse", true}}},
    .equalities = {{.statement = "a landmark for every position and the exact inverse give softmax",
                    .options = {{"landmarks", 65}, {"exact_inverse", true}},
                    .causal = false,
                    .other = "softmax",
                    .other_causal = false}},
    .deviations = {{"float32_distance",
                    {1e-4,
                     "the exact inverse multiplies rounding by the kernel's condition, some hundreds to thousands, "
                     "as landmarks are means and resemble each other"}},
                   {"long_float32_distance", {5e-4, "the same, and means of more positions resemble each other more"}},
                   {"equal_gradients",
                    {1e-6, "the exact inverse squares the kernel's condition in its gradient, in float64 too"}}},
}};

}  // namespace
}  // namespace attnscale

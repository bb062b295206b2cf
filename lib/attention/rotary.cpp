#include "attention/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tensor/graph_node.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rotary_kernel.h"

namespace attnscale {
namespace {

/// x [B, T, N, D], cosine and sine [T, D/2]. Writes both halves in place: no concatenation.
Tensor turned(const Tensor& x, const Tensor& cosine, const Tensor& sine) {
  const int64_t half = x.size(-1) / 2;
  const auto first = x.narrow(-1, 0, half), second = x.narrow(-1, half, half);
  const auto c = cosine.unsqueeze(1), s = sine.unsqueeze(1);  // [T, 1, D/2]
  auto out = torch::empty(x.sizes(), x.options());
  auto out_first = out.narrow(-1, 0, half), out_second = out.narrow(-1, half, half);
  at::mul_out(out_first, first, c).addcmul_(second, s, -1);
  at::mul_out(out_second, second, c).addcmul_(first, s);
  return out;
}

/// The transpose of a rotation, of one common length, is the rotation back, so the backward pass needs the angles only.
class Turn : public GraphNode<Turn> {
 public:
  Tensor forward(const Tensor& x, const Tensor& cosine, const Tensor& sine) {
    keep({cosine, sine});
    return turned(x, cosine, sine);
  }
  variable_list backward(const variable_list& gradients) {
    const auto angles = kept();
    return {apply(gradients[0], angles[0], -angles[1]), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor rotary_frequencies(int64_t width, double base, const RotaryScaling& scaling) {
  const double D = static_cast<double>(width), s = scaling.factor;
  if (scaling.kind == "ntk") base *= std::pow(s, D / (D - 2));
  const auto exponents = torch::arange(0, width, 2, torch::kFloat64) / D;  // [D/2]
  const auto frequencies = torch::pow(base, -exponents);
  if (scaling.kind == "linear") return frequencies / s;
  if (scaling.kind != "yarn") return frequencies;
  // The pair, counted from 0 and not whole, that turns so many times within the trained positions.
  const auto pair_with = [&](double turns) {
    return D * std::log(scaling.trained / (turns * 2 * std::numbers::pi)) / (2 * std::log(base));
  };
  const double first = std::max(std::floor(pair_with(32)), 0.0), last = std::min(std::ceil(pair_with(1)), D - 1);
  if (last <= 0) return frequencies / s;   // even the fastest pair turns at most once
  if (2 * first >= D) return frequencies;  // even the slowest one turns more than 32 times
  const auto slow = ((torch::arange(width / 2, torch::kFloat64) - first) / (last - first)).clamp(0, 1);
  return frequencies * (1 - slow) + frequencies / s * slow;
}

Rotary::Rotary(int64_t context, int64_t width, double base, const RotaryScaling& scaling) {
  const auto frequencies = rotary_frequencies(width, base, scaling);
  const auto angles = torch::outer(torch::arange(context, torch::kFloat64), frequencies);  // [context, D/2]
  const double length = scaling.kind == "yarn" ? 0.1 * std::log(scaling.factor) + 1 : 1;
  cosine_ = PositionTable(angles.cos() * length);
  sine_ = PositionTable(angles.sin() * length);
}

Tensor Rotary::turn(const Tensor& x, int64_t offset) {
  const int64_t count = x.size(1);
  const auto cosine = cosine_.rows(offset, count, x), sine = sine_.rows(offset, count, x);
  if (x.is_cpu() && has_kernels(x.scalar_type())) return rotary_kernel(x, cosine, sine);
  const int64_t width = 2 * cosine.size(1), still = x.size(3) - width;
  if (still == 0) return Turn::apply(x, cosine, sine);
  const auto pieces = x.split_with_sizes({width, still}, 3);
  return at::cat({Turn::apply(pieces[0], cosine, sine), pieces[1]}, 3);
}

}  // namespace attnscale

#include "tensor/head_layout.h"

#include <numeric>

#include "tensor/empty.h"
#include "tensor/graph_node.h"

namespace attnscale {
namespace {

/// The same memory, seen otherwise, of which the graph knows nothing but that it is the same: who changes one in place
/// changes what was saved of the other, and autograd says so.
Tensor seen_as(const Tensor& x, at::IntArrayRef sizes, at::IntArrayRef strides, int64_t offset) {
  Tensor seen =
      at::detail::make_tensor<at::TensorImpl>(at::TensorImpl::VIEW, at::Storage(x.storage()), x.key_set(), x.dtype());
  seen.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, offset);
  if (!x.is_inference() && !seen.is_inference())
    seen.unsafeGetTensorImpl()->set_version_counter(x.unsafeGetTensorImpl()->version_counter());
  return seen;
}

/// [B, T, W], dense -> the parts
variable_list parts_of(const Tensor& whole, const std::vector<int64_t>& counts, const std::vector<int64_t>& widths) {
  const int64_t length = whole.size(1), row = whole.size(2);
  int64_t offset = whole.storage_offset();
  variable_list parts;
  for (size_t i = 0; i < counts.size(); ++i) {
    parts.push_back(
        seen_as(whole, {whole.size(0), counts[i], length, widths[i]}, {length * row, widths[i], row, 1}, offset));
    offset += counts[i] * widths[i];
  }
  return parts;
}

/// Whether they are side by side in dense rows that hold nothing else.
bool lie_side_by_side(const variable_list& parts) {
  int64_t row = 0;
  for (const auto& part : parts) {
    if (!part.defined() || part.dim() != 4 || part.size(2) != parts[0].size(2)) return false;
    row += part.size(1) * part.size(3);
  }
  int64_t offset = parts[0].storage_offset();
  for (const auto& part : parts) {
    const std::array<int64_t, 4> strides = {part.size(2) * row, part.size(3), row, 1};
    if (!part.storage().is_alias_of(parts[0].storage()) || part.storage_offset() != offset ||
        part.scalar_type() != parts[0].scalar_type() || part.strides() != at::IntArrayRef(strides))
      return false;
    offset += part.size(1) * part.size(3);
  }
  return true;
}

Tensor joined(const Tensor& heads) { return heads.transpose(1, 2).flatten(2); }

class SplitHeads : public GraphNode<SplitHeads> {
 public:
  static constexpr bool sees_missing_gradients = true;

  variable_list forward(const Tensor& projected, const std::vector<int64_t>& counts) {
    const int64_t heads = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    sizes_ = projected.sizes();
    counts_ = counts;
    width_ = projected.size(2) / heads;
    return parts_of(projected.contiguous(), counts, std::vector<int64_t>(counts.size(), width_));
  }

  variable_list backward(const variable_list& gradients) {
    const bool graph_wanted = at::GradMode::is_enabled();
    if (!graph_wanted && lie_side_by_side(gradients))
      return {seen_as(gradients[0], sizes_, {sizes_[1] * sizes_[2], sizes_[2], 1}, gradients[0].storage_offset())};
    Tensor like;
    for (const auto& gradient : gradients)
      if (gradient.defined()) like = gradient;
    if (!like.defined()) return {Tensor()};
    variable_list rows;
    for (size_t i = 0; i < gradients.size(); ++i)
      rows.push_back(gradients[i].defined() ? joined(gradients[i])
                                            : at::zeros({sizes_[0], sizes_[1], counts_[i] * width_}, like.options()));
    return {at::cat(rows, 2)};
  }

 private:
  at::DimVector sizes_;  ///< of what was split
  std::vector<int64_t> counts_;
  int64_t width_ = 0;
};

class JoinHeads : public GraphNode<JoinHeads> {
 public:
  Tensor forward(const Tensor& heads) {
    heads_ = heads.size(1);
    const variable_list alone = {heads};
    if (!lie_side_by_side(alone)) return joined(heads).contiguous();
    const int64_t row = heads.size(1) * heads.size(3);
    return seen_as(heads, {heads.size(0), heads.size(2), row}, {heads.size(2) * row, row, 1}, heads.storage_offset());
  }

  variable_list backward(const variable_list& gradients) {
    const auto& gradient = gradients[0];
    if (at::GradMode::is_enabled())
      return {gradient.view({gradient.size(0), gradient.size(1), heads_, gradient.size(2) / heads_}).transpose(1, 2)};
    return parts_of(gradient.contiguous(), {heads_}, {gradient.size(2) / heads_});
  }

 private:
  int64_t heads_ = 0;
};

}  // namespace

std::vector<Tensor> split_heads(const Tensor& projected, const std::vector<int64_t>& counts) {
  return SplitHeads::apply(projected, counts);
}

Tensor join_heads(const Tensor& heads) { return JoinHeads::apply(heads); }

Tensor by_positions(int64_t batch, int64_t heads, int64_t positions, int64_t width, at::ScalarType type) {
  const int64_t row = heads * width;
  return seen_as(empty_on_cpu({batch, positions, heads, width}, type), {batch, heads, positions, width},
                 {positions * row, width, row, 1}, 0);
}

std::vector<Tensor> empty_parts(const std::vector<Tensor>& parts) {
  std::vector<Tensor> apart;
  if (!lie_side_by_side(parts)) {
    for (const auto& part : parts)
      apart.push_back(part.is_contiguous()
                          ? empty_on_cpu(part.sizes(), part.scalar_type())
                          : by_positions(part.size(0), part.size(1), part.size(2), part.size(3), part.scalar_type()));
    return apart;
  }
  std::vector<int64_t> counts, widths;
  for (const auto& part : parts) {
    counts.push_back(part.size(1));
    widths.push_back(part.size(3));
  }
  const auto& first = parts[0];  // whose rows are as far apart as all are wide
  return parts_of(empty_on_cpu({first.size(0), first.size(2), first.stride(2)}, first.scalar_type()), counts, widths);
}

}  // namespace attnscale

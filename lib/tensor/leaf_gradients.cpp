#include "tensor/leaf_gradients.h"

#include <torch/csrc/autograd/variable.h>

namespace attnscale {
namespace {

thread_local bool added_by_nodes = false;

}  // namespace

LeafGradients::LeafGradients() : before_(added_by_nodes) { added_by_nodes = true; }
LeafGradients::~LeafGradients() { added_by_nodes = before_; }

bool adds_gradient_of(const Tensor& input) {
  namespace impl = torch::autograd::impl;
  if (!added_by_nodes || !input.defined() || !input.requires_grad() || input.grad_fn()) return false;
  // Somebody may hold the leaf's own node, or have hung hooks on it.
  return impl::hooks(input).empty() && !impl::post_acc_grad_hooks(input) && !impl::try_get_grad_accumulator(input);
}

void add_gradient(const Tensor& leaf, Tensor&& gradient) {
  if (!gradient.defined()) return;
  TORCH_INTERNAL_ASSERT(gradient.sizes() == leaf.sizes(), "a gradient ", gradient.sizes(), " of a leaf ", leaf.sizes());
  const torch::NoGradGuard no_graph;
  if (gradient.scalar_type() != leaf.scalar_type()) gradient = gradient.to(leaf.scalar_type());
  auto& sum = leaf.mutable_grad();
  if (sum.defined()) sum.add_(gradient);
  else if (gradient.use_count() == 1 && gradient.strides() == leaf.strides()) sum = std::move(gradient);
  else sum = gradient.clone();
}

}  // namespace attnscale

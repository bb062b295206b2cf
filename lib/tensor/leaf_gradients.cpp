#include "tensor/leaf_gradients.h"

#include <torch/csrc/autograd/utils/grad_layout_contract.h>
#include <torch/csrc/autograd/variable.h>

namespace attnscale {
namespace {

thread_local bool added_by_nodes = false;

}  // namespace

LeafGradients::LeafGradients() : before_(added_by_nodes) { added_by_nodes = true; }
LeafGradients::~LeafGradients() { added_by_nodes = before_; }

bool adds_gradient_of(const Tensor& input) {
  namespace impl = torch::autograd::impl;
  if (!added_by_nodes || !input.defined() || !input.requires_grad() || !input.is_cpu() || input.grad_fn()) return false;
  // Somebody may hold the leaf's own node, or have hung hooks on it.
  return impl::hooks(input).empty() && !impl::post_acc_grad_hooks(input) && !impl::try_get_grad_accumulator(input);
}

void add_gradient(const Tensor& leaf, Tensor&& gradient) {
  if (!gradient.defined()) return;
  TORCH_CHECK(gradient.sizes() == leaf.sizes(), "a gradient ", gradient.sizes(), " of a leaf ", leaf.sizes(),
              ", expected one of its sizes");
  const torch::NoGradGuard no_graph;
  if (gradient.scalar_type() != leaf.scalar_type()) gradient = gradient.to(leaf.scalar_type());
  auto& sum = leaf.mutable_grad();
  // Memory that others read may wait in the same backward pass for its turn.
  if (sum.defined() && sum.storage().use_count() == 1) sum.add_(gradient);
  else if (sum.defined()) sum = sum + gradient;
  else if (is_only_here(gradient) && torch::autograd::utils::obeys_layout_contract(gradient, leaf))
    sum = std::move(gradient);
  else sum = torch::autograd::utils::clone_obey_contract(gradient, leaf);
}

bool is_only_here(const Tensor& tensor) {
  return tensor.defined() && tensor.has_storage() && tensor.use_count() == 1 && tensor.storage().use_count() == 1;
}

}  // namespace attnscale

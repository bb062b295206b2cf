#pragma once

#include <torch/types.h>

namespace attnscale {

using torch::Tensor;

/// While it lives, nodes that this thread's forward passes make (see GraphNode) add the gradients of leaves, as
/// parameters are, to their `.grad` themselves, where autograd has one more node for each, which takes as long as a
/// small kernel. For graphs that `backward()` walks: `torch::autograd::grad` does not find these leaves. One with hooks
/// stays with autograd.
class LeafGradients {
 public:
  LeafGradients();
  ~LeafGradients();
  LeafGradients(const LeafGradients&) = delete;
  LeafGradients& operator=(const LeafGradients&) = delete;

 private:
  bool before_;
};

/// Whether the node that is being made adds the gradient of `input` itself. @param input  undefined: no
bool adds_gradient_of(const Tensor& input);

/// As autograd does without a graph: the first gradient is taken over where nobody else has it, further ones are added.
/// @param gradient  of the leaf's sizes; undefined: none
void add_gradient(const Tensor& leaf, Tensor&& gradient);

}  // namespace attnscale

#pragma once

#include <torch/types.h>

namespace attnscale {

using torch::Tensor;

/// While it lives, nodes that this thread's forward passes make (see GraphNode) add the gradients of leaves on the CPU,
/// as parameters are, to their `.grad` themselves. Autograd has one more node for each leaf, which takes as long as a
/// small kernel. The backward pass may come when the guard is gone.
///
/// Such graphs are for `backward()`: `torch::autograd::grad` does not find these leaves, and adds to their `.grad` on
/// its way to others. One backward pass at a time may meet a leaf, and none a second time, even where nodes keep
/// nothing. Leaves that have hooks, or whose own node somebody holds, when the forward pass meets them stay
/// with autograd. Derivatives of gradients (`create_graph`) are refused.
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

/// As autograd does without a graph: the first gradient is taken over where nobody else has it and it lies as the leaf
/// does, otherwise copied; further ones are added. Unlike there, a sum whose memory another tensor shares is replaced.
/// @param gradient  of the leaf's sizes; undefined: none @throws c10::Error if it has others
void add_gradient(const Tensor& leaf, Tensor&& gradient);

/// Whether there is no other handle on this tensor, and no other tensor on its memory. @param tensor  undefined: no
bool is_only_here(const Tensor& tensor);

}  // namespace attnscale

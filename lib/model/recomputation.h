#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Generator.h>
#include <torch/types.h>

// B batch, T positions, M model width

namespace attnscale {

using at::Tensor;

/// What a part of a model returns: its output, and what it adds to the training loss (undefined: nothing).
struct WithAuxiliary {
  Tensor output, auxiliary_loss;
};

/// A part of a model as a function of the stream [B, T, M], of the bias on the logits and of an encoder's output, which
/// both may be undefined.
using Recomputable = std::function<WithAuxiliary(const Tensor& x, const Tensor& bias, const Tensor& memory)>;

/// Runs `work` and keeps of it for the backward pass only what it was given: its activations are computed again there
/// (activation checkpointing: Chen et al. 2016, arXiv:1604.06174, section 4). Values and gradients are those of
/// `work(x, bias, memory)`, to the last bit where its operators are deterministic: the second time it runs under the
/// same mixed precision and draws the same numbers, and what is drawn afterwards is as if it had run once.
///
/// PyTorch has this in Python only (torch.utils.checkpoint). Like its reentrant form, parameters that `work` uses get
/// their gradients in a backward pass of its own, so that `torch::autograd::grad` by them does not see it.
/// @param x           requires a gradient, or gradients of parameters would be lost
/// @param bias, memory  may be undefined
/// @param generators  that `work` draws from
/// Cost: `work` once more, forward.
WithAuxiliary recomputed(Recomputable work, const Tensor& x, const Tensor& bias, const Tensor& memory,
                         std::vector<at::Generator> generators);

}  // namespace attnscale

#pragma once

#include <functional>

namespace attnscale {

/// FLOPs that the matrix products of some work make: those of LibTorch's operators, and what the kernels' tiles
/// multiply, masked pairs of a tile included. A multiply-add counts two.
///
/// Less than `FlopCounter` tells, whose convention is the full square of an attention whatever its mask: of LibTorch's
/// causal attention the seen pairs alone count, which is somewhat less than its blocks multiply.
/// @param work  called once; counting costs time. On the CPU, and not as a recorded CUDA graph, which hides its
///              operators
double computed_flops(const std::function<void()>& work);

}  // namespace attnscale

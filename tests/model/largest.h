#pragma once

#include <ATen/core/Tensor.h>

/// The largest magnitude in a tensor, for bounds on differences.
inline double largest(const at::Tensor& x) { return x.abs().max().item<double>(); }

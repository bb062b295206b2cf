#pragma once

#include <vector>

#include <torch/types.h>

namespace attnscale {

using torch::Tensor;

struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  int64_t step = 1;  ///< number of the update
};

/// Whether the kernels below take such a parameter and gradient: float32, contiguous, on the CPU.
bool optimiser_has_kernel(const Tensor& parameter, const Tensor& gradient);

/// Norm of all together, summed in float32 over runs of numbers (in float64 where that overflows), in float64 over
/// runs. Plain twin: at::_foreach_norm and at::linalg_vector_norm in float64. @param tensors  float32, contiguous
double norm_of_all(const std::vector<Tensor>& tensors);

/// One parameter with what its update needs.
struct AdamTensors {
  Tensor parameter, gradient, first_moment, second_moment;
};

/// AdamW with the clipping of the gradients, one pass over memory: gradients are read as gradient_factor * gradient and
/// stay as they are. Plain twin: at::_foreach_mul_ and at::_fused_adamw_.
void adamw_kernel(const std::vector<AdamTensors>& tensors, const AdamOptions& options, double learning_rate,
                  double weight_decay, double gradient_factor);

}  // namespace attnscale

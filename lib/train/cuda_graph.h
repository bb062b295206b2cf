#pragma once

#include "train/device_graph.h"

namespace attnscale {

/// A CUDA graph (at::cuda::CUDAGraph), with memory of its own. The default generator of the device goes on in it: a
/// replay draws what the operators would draw, from the seed that it has then.
///
/// Defined where the program is built with a LibTorch for CUDA and CUDA's headers were found: ATTNSCALE_CUDA_GRAPHS.
std::unique_ptr<DeviceGraph> make_cuda_graph();

}  // namespace attnscale

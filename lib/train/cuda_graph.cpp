// Compiled only with a LibTorch for CUDA; see lib/CMakeLists.txt.

#include "train/cuda_graph.h"

#include <ATen/cuda/CUDAGraph.h>

namespace attnscale {
namespace {

class CudaGraph final : public DeviceGraph {
 public:
  void begin() override { graph_.capture_begin(); }
  void end() override { graph_.capture_end(); }
  void replay() override { graph_.replay(); }

 private:
  at::cuda::CUDAGraph graph_;
};

}  // namespace

std::unique_ptr<DeviceGraph> make_cuda_graph() { return std::make_unique<CudaGraph>(); }

}  // namespace attnscale

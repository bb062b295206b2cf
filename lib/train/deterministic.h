#pragma once

namespace attnscale {

/// While it lives and if `on`, PyTorch's operators give the same bits each time on one device, or throw where they have
/// no such form (at::globalContext().setDeterministicAlgorithms); cuDNN takes deterministic algorithms without trying
/// which is fastest, and cuBLAS workspaces of its own for each stream, which `CUBLAS_WORKSPACE_CONFIG` asks for unless
/// it is set: before its first product, so that an object must be made before anything is put onto the device.
/// Process-wide.
///
/// The program's own CPU kernels and PyTorch's on a CPU add in one order as they are, with one number of threads: there
/// the guard would forbid a few operators and change nothing, and the option that asks for it is refused.
class DeterministicAlgorithms {
 public:
  explicit DeterministicAlgorithms(bool on);
  ~DeterministicAlgorithms();
  DeterministicAlgorithms(const DeterministicAlgorithms&) = delete;
  DeterministicAlgorithms& operator=(const DeterministicAlgorithms&) = delete;

 private:
  bool on_, algorithms_, warn_only_, cudnn_, benchmark_;
};

}  // namespace attnscale

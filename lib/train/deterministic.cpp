#include "train/deterministic.h"

#include <cstdlib>

#include <ATen/Context.h>

namespace attnscale {

DeterministicAlgorithms::DeterministicAlgorithms(bool on)
    : on_(on),
      algorithms_(at::globalContext().deterministicAlgorithms()),
      warn_only_(at::globalContext().deterministicAlgorithmsWarnOnly()),
      cudnn_(at::globalContext().deterministicCuDNN()),
      benchmark_(at::globalContext().benchmarkCuDNN()) {
  if (!on_) return;
  constexpr int keep_what_is_set = 0;
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", keep_what_is_set);
  auto& context = at::globalContext();
  context.setDeterministicAlgorithms(true, /*warn_only=*/false);
  context.setDeterministicCuDNN(true);
  context.setBenchmarkCuDNN(false);
}

DeterministicAlgorithms::~DeterministicAlgorithms() {
  if (!on_) return;
  auto& context = at::globalContext();
  context.setDeterministicAlgorithms(algorithms_, warn_only_);
  context.setDeterministicCuDNN(cudnn_);
  context.setBenchmarkCuDNN(benchmark_);
}

}  // namespace attnscale

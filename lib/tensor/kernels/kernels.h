#pragma once

#include <string>

#include <torch/types.h>

namespace attnscale {

/// Whether the program's own CPU kernels are used, where they can be: on unless ATTNSCALE_KERNELS=off or
/// `set_kernels(false)`. Off, everything runs on LibTorch's operators, the kernels' plain twins. Kernels give the same
/// bits from run to run on one machine with one number of threads, but other bits than their twins.
bool kernels_on();
void set_kernels(bool on);

/// At its end the kernels are on or off as they were at its beginning.
class KernelsAsBefore {
 public:
  KernelsAsBefore();
  ~KernelsAsBefore();
  KernelsAsBefore(const KernelsAsBefore&) = delete;
  KernelsAsBefore& operator=(const KernelsAsBefore&) = delete;

 private:
  bool wanted_;
};

/// Which are in use here: `avx2`, `avx512`, `avx512_bf16` (with bfloat16 products), `avx512_amx` (which makes those),
/// or `none` (off, or no such machine). For provenance.
std::string kernels_in_use();

/// Whether matrix products in this dtype have kernels here: float32, and bfloat16 where the processor multiplies it.
bool has_kernels(at::ScalarType dtype);

}  // namespace attnscale

#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace attnscale {

/// Counts the FLOPs of every matrix product that the dispatcher sees while it lives, on all threads
/// of the process: backward passes on autograd threads count, and so would another model's work.
/// A multiply-add counts two.
///
/// Seen: this program's own kernels (`count_flops`), mm, addmm, bmm, baddbmm, addbmm, mv, addmv, dot, convolution
/// (grouped and transposed too), and scaled dot-product attention, which counts its full square whatever its mask (the
/// convention of PyTorch's own counter), each with its backward pass. A product inside a counted operator (autocast, a
/// convolution done by mm) counts once. Elementwise work, norms and softmax do not count. One counter at a time: a
/// second one would clear the first.
class FlopCounter {
 public:
  FlopCounter();
  ~FlopCounter();
  FlopCounter(const FlopCounter&) = delete;
  FlopCounter& operator=(const FlopCounter&) = delete;

  double total() const;
  std::map<std::string, double> by_operator() const;  ///< by dispatcher name: `aten::mm`

  /// Of the total: pairs that a causal mask hides in scaled dot-product attention. Its operators leave out all of them
  /// but those in blocks on the diagonal.
  double behind_causal_masks() const;

 private:
  uint64_t handle_;
};

/// What a kernel of this program's own does, which the dispatcher does not see. Costs nothing while nobody counts.
/// @param operation  `attnscale::linear`
void count_flops(const char* operation, double flops);

}  // namespace attnscale

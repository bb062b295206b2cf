#pragma once

#include <map>
#include <string>

namespace attnscale {

/// Counts the FLOPs of every matrix product that the dispatcher sees while it lives, on this thread
/// and on the autograd threads that work for it. A multiply-add counts two.
///
/// Seen: mm, addmm, bmm, baddbmm, mv, dot, convolution, and scaled dot-product attention, which counts its full
/// square whatever its mask (the convention of PyTorch's own counter), backward passes included.
/// Elementwise work, norms and softmax do not count. Not nestable.
class FlopCounter {
 public:
  FlopCounter();
  ~FlopCounter();
  FlopCounter(const FlopCounter&) = delete;
  FlopCounter& operator=(const FlopCounter&) = delete;

  double total() const;
  std::map<std::string, double> by_operator() const;

 private:
  uint64_t handle_;
};

}  // namespace attnscale

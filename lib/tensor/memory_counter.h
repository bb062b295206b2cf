#pragma once

#include <cstdint>
#include <memory>

namespace attnscale {

/// Follows what LibTorch's CPU allocator hands out and takes back for the work of this thread while it lives, backward
/// passes included. Tensors that were there before count from zero: `peak` is what the work needs on top of them.
/// Counters nest like the profiler's, the inner one hides the outer one.
class MemoryCounter {
 public:
  MemoryCounter();
  ~MemoryCounter();
  MemoryCounter(const MemoryCounter&) = delete;
  MemoryCounter& operator=(const MemoryCounter&) = delete;

  int64_t current() const;  ///< bytes; negative when older tensors were freed
  int64_t peak() const;     ///< bytes

 private:
  struct Reports;
  std::shared_ptr<Reports> reports_;
};

}  // namespace attnscale

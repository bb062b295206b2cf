#include "tensor/memory_counter.h"

#include <atomic>

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

namespace attnscale {

// The allocator reports to whoever holds the profiler's slot, one call per block.
struct MemoryCounter::Reports : c10::MemoryReportingInfoBase {
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device device) override {
    if (!device.is_cpu()) return;
    const int64_t now = current.fetch_add(size) + size;
    for (int64_t most = peak; now > most && !peak.compare_exchange_weak(most, now);) {
    }
  }
  bool memoryProfilingEnabled() const override { return true; }

  std::atomic<int64_t> current = 0, peak = 0;
};

MemoryCounter::MemoryCounter() : reports_(std::make_shared<Reports>()) {
  c10::ThreadLocalDebugInfo::_push(c10::DebugInfoKind::PROFILER_STATE, reports_);
}
MemoryCounter::~MemoryCounter() { c10::ThreadLocalDebugInfo::_pop(c10::DebugInfoKind::PROFILER_STATE); }

int64_t MemoryCounter::current() const { return reports_->current; }
int64_t MemoryCounter::peak() const { return reports_->peak; }

}  // namespace attnscale

#include "tensor/memory.h"

#ifdef __GLIBC__
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#endif

namespace attnscale {

#ifdef __GLIBC__
namespace {

/// Grows the heap by room that nothing uses yet, and asks for large pages there. Where the kernel has none to give, or
/// the address space is limited, all stays as it was.
void ask_for_large_pages() {
  constexpr std::uintptr_t room = (1 << 30) - (1 << 20), page = 2 << 20;
  const auto before = reinterpret_cast<std::uintptr_t>(sbrk(0));
  void* volatile taken = std::malloc(room);  // or the compiler would leave both calls out
  std::free(taken);
  const auto from = (before + page - 1) / page * page, to = reinterpret_cast<std::uintptr_t>(sbrk(0)) / page * page;
  if (to > from) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
}

}  // namespace
#endif

void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // bytes; blocks below come from the heap
  mallopt(M_TRIM_THRESHOLD, -1);       // the heap does not shrink
  mallopt(M_TOP_PAD, 64 << 20);        // and grows in large strides
  ask_for_large_pages();
#endif
}

}  // namespace attnscale

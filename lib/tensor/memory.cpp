#include "tensor/memory.h"

#include <dlfcn.h>

#ifdef __GLIBC__
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#endif

namespace attnscale {

#ifdef __GLIBC__
namespace {

/// Whether room that nothing uses yet costs nobody anything: no limit on it, and no count of what was promised.
bool room_is_free() {
  for (const auto kind : {RLIMIT_AS, RLIMIT_DATA})
    if (rlimit limit{}; getrlimit(kind, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY) return false;
  int overcommit = 2;
  std::ifstream("/proc/sys/vm/overcommit_memory") >> overcommit;
  return overcommit != 2;
}

/// Grows the heap by room that nothing uses yet, and asks for large pages there. Where that has a price, or the kernel
/// has no such pages to give, all stays as it was.
void ask_for_large_pages() {
  if (!room_is_free()) return;
  constexpr std::uintptr_t room = (1 << 30) - (1 << 20), page = 2 << 20;
  const auto before = reinterpret_cast<std::uintptr_t>(sbrk(0));
  void* volatile taken = std::malloc(room);  // or the compiler would leave both calls out
  std::free(taken);
  const auto from = (before + page - 1) / page * page, to = reinterpret_cast<std::uintptr_t>(sbrk(0)) / page * page;
  if (to > from) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
}

/// tcmalloc gives pages that are free back to the kernel now and then, which clears them when they are asked for again:
/// 2 % of a training step. The name is that of its flag, for which it has no function in C; who sets it from outside
/// (TCMALLOC_RELEASE_RATE) knows why.
void keep_pages_of_tcmalloc() {
  if (std::getenv("TCMALLOC_RELEASE_RATE")) return;
  constexpr auto* flag =
      "_ZN62FLAG__namespace_do_not_use_directly_use_DECLARE_double_instead27FLAGS_tcmalloc_release_rateE";
  if (auto* rate = static_cast<double*>(dlsym(RTLD_DEFAULT, flag))) *rate = 0;
}

}  // namespace
#endif

void keep_freed_memory() {
#ifdef __GLIBC__
  keep_pages_of_tcmalloc();
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // bytes; blocks below come from the heap
  mallopt(M_TRIM_THRESHOLD, -1);       // the heap does not shrink
  mallopt(M_TOP_PAD, 64 << 20);        // and grows in large strides
  ask_for_large_pages();
#endif
}

std::string allocator_in_use() {
  using Version = const char* (*)(int*, int*, const char**);
  const auto of_tcmalloc = reinterpret_cast<Version>(dlsym(RTLD_DEFAULT, "tc_version"));
  return of_tcmalloc ? std::string("tcmalloc of ") + of_tcmalloc(nullptr, nullptr, nullptr) : "the C library";
}

}  // namespace attnscale

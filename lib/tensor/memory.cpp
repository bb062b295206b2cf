#include "tensor/memory.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace attnscale {

void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // bytes; blocks below come from the heap
  mallopt(M_TRIM_THRESHOLD, -1);       // the heap does not shrink
  mallopt(M_TOP_PAD, 64 << 20);        // and grows in large strides
#endif
}

}  // namespace attnscale

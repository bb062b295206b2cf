#pragma once

namespace attnscale {

/// Makes the C library keep the memory that tensors free instead of giving it back to the kernel after every
/// operation: a training step frees and takes the same blocks again and again. Call once, early.
void keep_freed_memory();

}  // namespace attnscale

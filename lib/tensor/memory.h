#pragma once

namespace attnscale {

/// Makes the C library keep the memory that tensors free instead of giving it back to the kernel after every
/// operation: a training step frees and takes the same blocks again and again. And asks for pages of 2 MiB for them, of
/// which matrices of some MiB miss fewer in the processor's tables. Call once, early.
void keep_freed_memory();

}  // namespace attnscale

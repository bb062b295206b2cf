#pragma once

#include <string>

namespace attnscale {

/// Makes the C library keep the memory that tensors free instead of giving it back to the kernel after every
/// operation: a training step frees and takes the same blocks again and again. (tcmalloc, where the program has it,
/// does so by itself, and gives back a little now and then.) And asks for pages of 2 MiB for them, of which matrices of
/// some MiB miss fewer in the processor's tables. Call once, early.
void keep_freed_memory();

/// Whose memory `malloc` gives: `tcmalloc of gperftools 2.10`, or `the C library`.
std::string allocator_in_use();

}  // namespace attnscale

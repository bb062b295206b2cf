#pragma once

#include <string>

#include "core/json.h"

namespace attnscale {

/// The commit this program was built from, or "unknown" where the build was not told (ATTNSCALE_COMMIT).
std::string build_commit();

/// Version, commit, compiler, libraries, processor, threads, host and command line: what made a result.
Json provenance();

/// `2026-01-31T23:59:59Z`
std::string utc_now();

/// Memory this process may use: the machine's, or its control group's limit if that is smaller.
int64_t memory_limit_bytes();

/// Memory that processes can take now without swapping, bytes; the limit where the system does not say.
int64_t free_memory_bytes();

/// Most memory that this process ever held; in a worker that trains many runs, the largest of them.
int64_t peak_memory_bytes();

}  // namespace attnscale

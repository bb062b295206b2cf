#pragma once

#include <filesystem>

namespace attnscale {

/// Writes certificate.json: the proofs of the variants whose runs are in a results folder.
/// @throws Error (interrupted) on a request to stop; then it writes nothing
void certify(const std::filesystem::path& folder);

/// From a sweep's folder alone: certificate.json, scaling.json, report.html and figures, and a summary on standard
/// output.
void finish_sweep(const std::filesystem::path& folder);

/// Writes scaling.json of a sweep's folder. Each stage can be done again by itself, years later.
void write_scaling(const std::filesystem::path& folder);

}  // namespace attnscale

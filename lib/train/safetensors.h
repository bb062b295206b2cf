#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "attention/attention.h"

// The safetensors file format: 8 bytes of little-endian header length, a JSON header
// `{"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets"}}`, then the tensors' bytes
// without holes. A file is data, never code, so that a checkpoint from a stranger can be opened.
//
// Source: the format's own description, huggingface/safetensors, README, "Format".

namespace attnscale {

using Metadata = std::map<std::string, std::string>;

/// The bytes of a file with these tensors: the same, byte for byte, as PyPI's `safetensors` writes.
/// @param tensors  any shape, on any device; bool, integers, float8 to float64, complex64
/// @throws DataError for a dtype that the format does not know
/// Cost: one copy of all the data in memory.
std::string safetensors_bytes(const TensorMap& tensors, const Metadata& metadata = {});

/// Writes `safetensors_bytes`; a crash leaves the old file or the new, never a mixture.
/// @throws IoError, DataError
void write_safetensors(const std::filesystem::path& file, const TensorMap& tensors, const Metadata& metadata = {});

/// Reads every tensor to the CPU, contiguous. Stricter than the format asks: whatever could be
/// understood in two ways is refused, before any memory that the file merely claims is allocated.
/// @param metadata  receives the header's `__metadata__`; may be null
/// @throws DataError naming the file, the tensor and what was expected; IoError
TensorMap read_safetensors(const std::filesystem::path& file, Metadata* metadata = nullptr);

}  // namespace attnscale

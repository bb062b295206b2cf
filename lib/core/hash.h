#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace attnscale {

/// SHA-256 of the bytes, as 64 hexadecimal digits.
std::string sha256(std::string_view bytes);

/// SHA-256 of a file's content, read in blocks. @throws IoError
std::string sha256_of_file(const std::filesystem::path& file);

/// A 64-bit seed for a named stream: the same inputs give the same seed on every machine, and
/// streams with different names are independent.
uint64_t stream_seed(uint64_t seed, std::string_view stream, uint64_t index = 0);

}  // namespace attnscale

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

// What a safetensors file says of itself (train/safetensors.h), read without LibTorch and before any tensor is made:
// the part of a stranger's file that has to be believed or refused.

namespace attnscale {

struct SafetensorsType {
  const char* name;
  int64_t bytes;  ///< of one element
};

/// The format's dtypes in its own order: a writer puts the last kind first, so that everything stays aligned.
const std::vector<SafetensorsType>& safetensors_types();

struct SafetensorsEntry {
  std::string name;
  size_t type = 0;  ///< in `safetensors_types`
  std::vector<int64_t> shape;
  std::vector<uint64_t> offsets;  ///< begin and end, from the end of the header
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;        ///< by offset: every byte of the data belongs to exactly one
  std::map<std::string, std::string> metadata;  ///< `__metadata__`
};

/// A name from a file, safe to print: quoted, control characters escaped, cut when long.
std::string in_quotes(const std::string& name);

/// Length of the header, which stands in the file's first eight bytes, little-endian.
/// @param begin  the file's first bytes  @param file  for messages
/// @throws DataError for a file that is too short for it, or a header over 100 MB
uint64_t safetensors_header_bytes(std::string_view begin, uint64_t file_bytes, const std::string& file);

/// Whatever could be understood in two ways is refused: duplicate keys, holes, overlaps, shapes that overflow, other
/// JSON types than the format's.
/// @param data_bytes  what follows the header
/// @throws DataError naming the file, the tensor and what was expected
SafetensorsHeader parse_safetensors_header(std::string_view header, uint64_t data_bytes, const std::string& file);

}  // namespace attnscale

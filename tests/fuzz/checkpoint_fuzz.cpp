// Checkpoints: the header of a safetensors file, and the manifest. Any bytes are a whole layout of the data, or a
// message.

#include <cstdint>
#include <cstdlib>

#include "train/manifest.h"
#include "train/safetensors_header.h"

using namespace attnscale;

namespace {

void read_header(std::string_view bytes) {
  const auto length = safetensors_header_bytes(bytes.substr(0, 8), bytes.size(), "fuzz");
  if (length > bytes.size() - 8) std::abort();
  const auto header = parse_safetensors_header(bytes.substr(8, length), bytes.size() - 8 - length, "fuzz");
  uint64_t end = 0;
  for (const auto& entry : header.entries) {  // no hole, no overlap, and each as long as its shape says
    uint64_t wanted = static_cast<uint64_t>(safetensors_types().at(entry.type).bytes);
    for (const auto size : entry.shape) wanted *= static_cast<uint64_t>(size);
    if (entry.offsets.at(0) != end || entry.offsets.at(1) - end != wanted) std::abort();
    end = entry.offsets[1];
  }
  if (end != bytes.size() - 8 - length) std::abort();
}

/// Sealed, so that what is behind the seal is met too.
void read_manifest(std::string_view bytes) {
  auto manifest = parse_json(bytes, "fuzz").value;
  std::string text(bytes);
  if (manifest.is_object()) text = sealed_manifest(std::move(manifest)).dump();
  const auto read = parse_manifest(text, "fuzz");
  if (read.at("step").get<int64_t>() < 0) std::abort();
  for (const auto& [name, entry] : read.at("files").items())
    if (name.find('/') != std::string::npos || entry.at("sha256").get<std::string>().size() > bytes.size())
      std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    if (!bytes.empty() && bytes.front() == '{' && (size < 8 || bytes[7] != 0)) read_manifest(bytes);
    else read_header(bytes);
  } catch (const DataError&) {
  } catch (const ConfigError&) {
  }
  return 0;
}

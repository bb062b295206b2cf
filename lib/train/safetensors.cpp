#include "train/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "train/safetensors_header.h"

namespace attnscale {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor bytes are written as they lie in memory");

/// In the order of `safetensors_types`.
constexpr std::array<at::ScalarType, 16> types{
    at::kBool,     at::kByte, at::kChar,   at::kFloat8_e5m2, at::kFloat8_e4m3fn, at::kShort,  at::kUInt16, at::kHalf,
    at::kBFloat16, at::kInt,  at::kUInt32, at::kFloat,       at::kComplexFloat,  at::kDouble, at::kLong,   at::kUInt64};

/// A file that closes itself.
class Descriptor {
 public:
  explicit Descriptor(const std::filesystem::path& file)
      : file_(file), number_(::open(file.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (number_ < 0) throw IoError(fmt::format("{}: cannot open: {}", file.string(), std::strerror(errno)));
  }
  ~Descriptor() { ::close(number_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  uint64_t size() const {
    struct stat status {};
    if (::fstat(number_, &status) != 0)
      throw IoError(fmt::format("{}: cannot stat: {}", file_.string(), std::strerror(errno)));
    if (!S_ISREG(status.st_mode)) throw DataError(file_.string() + ": is not a regular file");
    return static_cast<uint64_t>(status.st_size);
  }

  void read_at(uint64_t offset, void* into, uint64_t bytes) const {
    auto* at = static_cast<char*>(into);
    while (bytes > 0) {
      const ssize_t count = ::pread(number_, at, bytes, static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw IoError(fmt::format("{}: cannot read: {}", file_.string(), std::strerror(errno)));
      if (count == 0) throw DataError(file_.string() + ": became shorter while it was read");
      at += count, offset += static_cast<uint64_t>(count), bytes -= static_cast<uint64_t>(count);
    }
  }

 private:
  std::filesystem::path file_;
  int number_;
};

/// Place of its dtype in `types`.
size_t type_of(const std::string& name, const Tensor& tensor) {
  if (name == "__metadata__") throw DataError("tensor \"__metadata__\": the format reserves this name; choose another");
  const auto found = std::find(types.begin(), types.end(), tensor.scalar_type());
  if (found != types.end()) return static_cast<size_t>(found - types.begin());
  throw DataError(fmt::format("tensor {}: the safetensors format has no dtype for {}; convert it first",
                              in_quotes(name), c10::toString(tensor.scalar_type())));
}

}  // namespace

std::string safetensors_bytes(const TensorMap& tensors, const Metadata& metadata) {
  std::vector<std::pair<size_t, const TensorMap::value_type*>> order;
  for (const auto& item : tensors) order.emplace_back(type_of(item.first, item.second), &item);
  // The map is sorted by name already, so a stable sort leaves names in order within a dtype.
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first > b.first; });

  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::string text = header.dump();
  text.pop_back();
  uint64_t offset = 0;
  for (const auto& [type, item] : order) {
    // Written piecewise: an ordered object looks every new key up among all the others.
    const uint64_t end = offset + item->second.nbytes();
    const Json entry{{"dtype", safetensors_types()[type].name},
                     {"shape", item->second.sizes().vec()},
                     {"data_offsets", {offset, end}}};
    if (text.size() > 1) text += ',';
    text.append(Json(item->first).dump()).append(":").append(entry.dump());
    offset = end;
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins aligned to 8 bytes

  const uint64_t length = text.size();
  std::string bytes;
  bytes.reserve(8 + length + offset);
  bytes.append(reinterpret_cast<const char*>(&length), 8).append(text);
  for (const auto& [type, item] : order) {
    const auto plain = item->second.detach().to(at::kCPU).contiguous();
    if (plain.nbytes() > 0) bytes.append(static_cast<const char*>(plain.const_data_ptr()), plain.nbytes());
  }
  return bytes;
}

void write_safetensors(const std::filesystem::path& file, const TensorMap& tensors, const Metadata& metadata) {
  write_file_atomically(file, safetensors_bytes(tensors, metadata));
}

TensorMap read_safetensors(const std::filesystem::path& file, Metadata* metadata) {
  const auto name = file.string();
  const Descriptor descriptor(file);
  const uint64_t size = descriptor.size();
  std::string begin(std::min<uint64_t>(size, 8), '\0');
  descriptor.read_at(0, begin.data(), begin.size());
  const auto length = safetensors_header_bytes(begin, size, name);
  std::string text(length, '\0');
  descriptor.read_at(8, text.data(), length);
  auto header = parse_safetensors_header(text, size - 8 - length, name);

  TensorMap tensors;
  for (const auto& entry : header.entries) {
    auto tensor = at::empty(entry.shape, at::TensorOptions(types[entry.type]));
    if (tensor.nbytes() > 0)
      descriptor.read_at(8 + length + entry.offsets[0], tensor.mutable_data_ptr(), tensor.nbytes());
    tensors.emplace(entry.name, std::move(tensor));
  }
  if (metadata) *metadata = std::move(header.metadata);
  return tensors;
}

}  // namespace attnscale

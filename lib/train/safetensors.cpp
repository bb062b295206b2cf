#include "train/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace attnscale {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor bytes are written as they lie in memory");

constexpr uint64_t max_header_bytes = 100'000'000;
constexpr size_t max_dimensions = 64;

struct NamedType {
  const char* name;
  at::ScalarType type;
};

// In the format's own order: a writer puts the last kind first, so that everything stays aligned.
constexpr std::array<NamedType, 16> types{{{"BOOL", at::kBool},
                                           {"U8", at::kByte},
                                           {"I8", at::kChar},
                                           {"F8_E5M2", at::kFloat8_e5m2},
                                           {"F8_E4M3", at::kFloat8_e4m3fn},
                                           {"I16", at::kShort},
                                           {"U16", at::kUInt16},
                                           {"F16", at::kHalf},
                                           {"BF16", at::kBFloat16},
                                           {"I32", at::kInt},
                                           {"U32", at::kUInt32},
                                           {"F32", at::kFloat},
                                           {"C64", at::kComplexFloat},
                                           {"F64", at::kDouble},
                                           {"I64", at::kLong},
                                           {"U64", at::kUInt64}}};

struct Entry {
  std::string name;
  const NamedType* type = nullptr;
  std::vector<int64_t> shape;
  std::vector<uint64_t> offsets;  ///< begin and end, from the end of the header
};

/// A name from a file, safe to print: quoted, control characters escaped, cut when long.
std::string in_quotes(const std::string& name) {
  auto text = Json(name.substr(0, 80)).dump(-1, ' ', true, Json::error_handler_t::replace);
  return name.size() > 80 ? text + "..." : text;
}

/// Reads the header token by token, so that a hostile one is refused at its first wrong token and
/// never grows into a tree (a header may hold millions of keys or levels).
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderReader(std::string file) : file_(std::move(file)) {}

  std::vector<Entry> entries;
  Metadata metadata;

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_integer(number_integer_t value) override { return unexpected(fmt::format("the number {}", value)); }
  bool number_float(number_float_t, const string_t& text) override { return unexpected("the number " + text); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        return unexpected(fmt::format("the size {}", value));
      if (entries.back().shape.size() == max_dimensions) return unexpected("more than 64 dimensions");
      entries.back().shape.push_back(static_cast<int64_t>(value));
    } else if (place_ == Place::offsets && entries.back().offsets.size() < 2) {
      entries.back().offsets.push_back(value);
    } else {
      return unexpected(fmt::format("the number {}", value));
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      metadata[key_] = value;
      return true;
    }
    if (place_ != Place::tensor || key_ != "dtype") return unexpected("the text " + in_quotes(value));
    const auto found = std::find_if(types.begin(), types.end(), [&](const auto& type) { return value == type.name; });
    if (found == types.end()) {
      std::vector<std::string> known;
      for (const auto& type : types) known.push_back(type.name);
      refuse(fmt::format("dtype {} is not known; expected one of {}", in_quotes(value), fmt::join(known, ", ")));
    }
    entries.back().type = &*found;
    return true;
  }

  bool key(string_t& name) override {
    key_ = name;
    if (place_ == Place::tensor) {
      if (name != "dtype" && name != "shape" && name != "data_offsets")
        refuse(fmt::format("unknown key {}; expected dtype, shape and data_offsets", in_quotes(name)));
      if (!entry_keys_.insert(name).second) refuse(fmt::format("duplicate key {}", in_quotes(name)));
    } else if (!(place_ == Place::metadata ? metadata_keys_ : names_).insert(name).second) {
      throw DataError(fmt::format("{}: duplicate key {} in the header; one name can stand for one thing only", file_,
                                  in_quotes(name)));
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::start) {
      place_ = Place::top;
    } else if (place_ == Place::top && key_ == "__metadata__") {
      place_ = Place::metadata;
    } else if (place_ == Place::top) {
      place_ = Place::tensor;
      entry_keys_.clear();
      entries.emplace_back().name = key_;
    } else {
      return unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor && entry_keys_.size() != 3) refuse("lacks one of dtype, shape and data_offsets");
    place_ = place_ == Place::top ? Place::finished : Place::top;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor || key_ == "dtype") return unexpected("a list");
    place_ = key_ == "shape" ? Place::shape : Place::offsets;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::offsets && entries.back().offsets.size() != 2)
      refuse(fmt::format("data_offsets has {} numbers, expected 2", entries.back().offsets.size()));
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception&) override {
    throw DataError(fmt::format("{}: byte {} of the header is not valid JSON; the file is damaged or truncated", file_,
                                byte > 0 ? byte - 1 : 0));
  }

  [[noreturn]] void refuse(const std::string& message) const {
    throw DataError(fmt::format("{}: tensor {}: {}", file_, in_quotes(entries.back().name), message));
  }

 private:
  enum class Place { start, top, metadata, tensor, shape, offsets, finished };

  bool unexpected(const std::string& what) const {
    const bool in_tensor = place_ == Place::tensor || place_ == Place::shape || place_ == Place::offsets;
    if (in_tensor)
      refuse(fmt::format("{}: received {}, expected {}", key_, what,
                         key_ == "dtype"   ? "the name of a dtype"
                         : key_ == "shape" ? "a list of at most 64 whole numbers"
                                           : "a list of two whole numbers"));
    throw DataError(fmt::format("{}: header {}: received {}, expected {}", file_,
                                place_ == Place::start ? "top level" : in_quotes(key_), what,
                                place_ == Place::metadata ? "a text" : "an object"));
  }

  std::string file_, key_;
  Place place_ = Place::start;
  std::set<std::string> names_, metadata_keys_, entry_keys_;
};

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

/// Bytes that a shape and dtype need; nothing if the product overflows.
std::optional<uint64_t> byte_count(const Entry& entry) {
  // Zero sizes count as one here: strides are products too, and must not overflow either.
  int64_t product = static_cast<int64_t>(c10::elementSize(entry.type->type));
  bool empty = false;
  for (const int64_t size : entry.shape) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product)) return std::nullopt;
  }
  return empty ? 0 : static_cast<uint64_t>(product);
}

/// Every byte of the data belongs to exactly one tensor.
void check_layout(const std::string& file, std::vector<Entry>& entries, uint64_t data_bytes) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  uint64_t end = 0;
  for (const auto& entry : entries) {
    const auto refuse = [&](const std::string& message) {
      throw DataError(fmt::format("{}: tensor {}: {}", file, in_quotes(entry.name), message));
    };
    const uint64_t begin = entry.offsets[0], stop = entry.offsets[1];
    const auto shape = fmt::format("{} {}", entry.type->name, entry.shape);
    const auto needed = byte_count(entry);
    if (!needed) refuse(fmt::format("{} overflows; no file can hold it", shape));
    if (stop < begin || stop - begin != *needed)
      refuse(fmt::format("data_offsets [{}, {}] do not fit {}, which needs {} bytes", begin, stop, shape, *needed));
    if (begin != end)
      refuse(fmt::format("begins at byte {} of the data, expected {} ({})", begin, end,
                         begin > end ? "a hole" : "it overlaps another tensor"));
    if (stop > data_bytes)
      refuse(fmt::format("ends at byte {} of the data, but the file has {}; it is truncated", stop, data_bytes));
    end = stop;
  }
  if (end != data_bytes)
    throw DataError(fmt::format("{}: {} bytes follow the last tensor{}; expected none", file, data_bytes - end,
                                entries.empty() ? "" : " " + in_quotes(entries.back().name)));
}

const NamedType& type_of(const std::string& name, const Tensor& tensor) {
  if (name == "__metadata__") throw DataError("tensor \"__metadata__\": the format reserves this name; choose another");
  for (const auto& type : types)
    if (type.type == tensor.scalar_type()) return type;
  throw DataError(fmt::format("tensor {}: the safetensors format has no dtype for {}; convert it first",
                              in_quotes(name), c10::toString(tensor.scalar_type())));
}

}  // namespace

std::string safetensors_bytes(const TensorMap& tensors, const Metadata& metadata) {
  std::vector<std::pair<const NamedType*, const TensorMap::value_type*>> order;
  for (const auto& item : tensors) order.emplace_back(&type_of(item.first, item.second), &item);
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
    const Json entry{{"dtype", type->name}, {"shape", item->second.sizes().vec()}, {"data_offsets", {offset, end}}};
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
  uint64_t length = 0;
  if (size < 8)
    throw DataError(
        fmt::format("{}: has {} bytes; a safetensors file has at least 8 for the header's length", name, size));
  descriptor.read_at(0, &length, 8);
  if (length > max_header_bytes)
    throw DataError(
        fmt::format("{}: the header claims {} bytes, at most {} are allowed", name, length, max_header_bytes));
  if (length > size - 8)
    throw DataError(
        fmt::format("{}: the header claims {} bytes, but {} follow; the file is truncated", name, length, size - 8));

  std::string header(length, '\0');
  descriptor.read_at(8, header.data(), length);
  if (header.empty() || header.front() != '{')
    throw DataError(fmt::format("{}: the header does not begin with {{; this is not a safetensors file", name));
  HeaderReader reader(name);
  Json::sax_parse(header, &reader);
  check_layout(name, reader.entries, size - 8 - length);

  TensorMap tensors;
  for (const auto& entry : reader.entries) {
    auto tensor = at::empty(entry.shape, at::TensorOptions(entry.type->type));
    if (tensor.nbytes() > 0)
      descriptor.read_at(8 + length + entry.offsets[0], tensor.mutable_data_ptr(), tensor.nbytes());
    tensors.emplace(entry.name, std::move(tensor));
  }
  if (metadata) *metadata = std::move(reader.metadata);
  return tensors;
}

}  // namespace attnscale

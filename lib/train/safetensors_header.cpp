#include "train/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/json.h"

namespace attnscale {
namespace {

constexpr uint64_t max_header_bytes = 100'000'000;
constexpr size_t max_dimensions = 64;

/// Reads the header token by token, so that a hostile one is refused at its first wrong token and
/// never grows into a tree (a header may hold millions of keys or levels).
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderReader(std::string file) : file_(std::move(file)) {}

  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;

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
    const auto& types = safetensors_types();
    const auto found = std::find_if(types.begin(), types.end(), [&](const auto& type) { return value == type.name; });
    if (found == types.end()) {
      std::vector<std::string> known;
      for (const auto& type : types) known.emplace_back(type.name);
      refuse(fmt::format("dtype {} is not known; expected one of {}", in_quotes(value), fmt::join(known, ", ")));
    }
    entries.back().type = static_cast<size_t>(found - types.begin());
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

/// Bytes that a shape and dtype need; nothing if the product overflows.
std::optional<uint64_t> byte_count(const SafetensorsEntry& entry) {
  // Zero sizes count as one here: strides are products too, and must not overflow either.
  int64_t product = safetensors_types()[entry.type].bytes;
  bool empty = false;
  for (const int64_t size : entry.shape) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product)) return std::nullopt;
  }
  return empty ? 0 : static_cast<uint64_t>(product);
}

/// Every byte of the data belongs to exactly one tensor.
void check_layout(const std::string& file, std::vector<SafetensorsEntry>& entries, uint64_t data_bytes) {
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.offsets < b.offsets; });
  uint64_t end = 0;
  for (const auto& entry : entries) {
    const auto refuse = [&](const std::string& message) {
      throw DataError(fmt::format("{}: tensor {}: {}", file, in_quotes(entry.name), message));
    };
    const uint64_t begin = entry.offsets[0], stop = entry.offsets[1];
    const auto shape = fmt::format("{} {}", safetensors_types()[entry.type].name, entry.shape);
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

}  // namespace

const std::vector<SafetensorsType>& safetensors_types() {
  static const std::vector<SafetensorsType> types = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
      {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4},     {"C64", 8},     {"F64", 8}, {"I64", 8}, {"U64", 8}};
  return types;
}

std::string in_quotes(const std::string& name) {
  auto text = Json(name.substr(0, 80)).dump(-1, ' ', true, Json::error_handler_t::replace);
  return name.size() > 80 ? text + "..." : text;
}

uint64_t safetensors_header_bytes(std::string_view begin, uint64_t file_bytes, const std::string& file) {
  uint64_t length = 0;
  if (file_bytes < 8 || begin.size() < 8)
    throw DataError(
        fmt::format("{}: has {} bytes; a safetensors file has at least 8 for the header's length", file, file_bytes));
  std::memcpy(&length, begin.data(), 8);
  if (length > max_header_bytes)
    throw DataError(
        fmt::format("{}: the header claims {} bytes, at most {} are allowed", file, length, max_header_bytes));
  if (length > file_bytes - 8)
    throw DataError(fmt::format("{}: the header claims {} bytes, but {} follow; the file is truncated", file, length,
                                file_bytes - 8));
  return length;
}

SafetensorsHeader parse_safetensors_header(std::string_view header, uint64_t data_bytes, const std::string& file) {
  if (header.empty() || header.front() != '{')
    throw DataError(fmt::format("{}: the header does not begin with {{; this is not a safetensors file", file));
  HeaderReader reader(file);
  Json::sax_parse(header, &reader);
  check_layout(file, reader.entries, data_bytes);
  return {std::move(reader.entries), std::move(reader.metadata)};
}

}  // namespace attnscale

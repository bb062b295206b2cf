// TensorBoard's event files: TFRecord frames (tensorflow/core/lib/io/record_writer.h) that hold `Event` messages of
// Protocol Buffers (tensorboard/compat/proto/event.proto, summary.proto, tensor.proto).

#include <array>
#include <ctime>

#include <fmt/format.h>

#include "core/files.h"
#include "report/export_table.h"
#include "report/little_endian.h"
#include "report/sweep_data.h"

namespace attnscale {
namespace {

template <class Number>
std::string bytes_of(Number value) {
  std::string bytes;
  append_little_endian(bytes, value);
  return bytes;
}

/// CRC-32C (Castagnoli), reflected polynomial 0x82F63B78, masked as TFRecord asks.
uint32_t masked_crc(const std::string& bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> entries{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ 0x82F63B78U : value >> 1;
      entries[i] = value;
    }
    return entries;
  }();
  uint32_t crc = ~0U;
  for (const char c : bytes) crc = table[(crc ^ static_cast<unsigned char>(c)) & 0xFF] ^ crc >> 8;
  crc = ~crc;
  return (crc >> 15 | crc << 17) + 0xA282EAD8U;
}

std::string frame(const std::string& data) {
  const auto length = bytes_of(static_cast<uint64_t>(data.size()));
  return length + bytes_of(masked_crc(length)) + data + bytes_of(masked_crc(data));
}

/// A message of Protocol Buffers under construction.
class Message {
 public:
  Message& varint(int field, uint64_t value) {
    raw(static_cast<uint64_t>(field) << 3);
    raw(value);
    return *this;
  }
  Message& fixed(int field, double value) {
    raw(static_cast<uint64_t>(field) << 3 | 1);
    out_ += bytes_of(value);
    return *this;
  }
  Message& bytes(int field, const std::string& value) {
    raw(static_cast<uint64_t>(field) << 3 | 2);
    raw(value.size());
    out_ += value;
    return *this;
  }
  const std::string& text() const { return out_; }

 private:
  void raw(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_ += static_cast<char>(value | 0x80);
    out_ += static_cast<char>(value);
  }
  std::string out_;
};

/// A scalar of dtype double, as the `scalars` plugin stores them: TensorProto without dimensions.
std::string scalar_value(const std::string& tag, double number) {
  constexpr int dt_double = 2, data_class_scalar = 1;
  Message tensor, plugin, metadata, value;
  tensor.varint(1, dt_double).bytes(2, "").bytes(4, bytes_of(number));
  plugin.bytes(1, "scalars");
  metadata.bytes(1, plugin.text()).varint(4, data_class_scalar);
  value.bytes(1, tag).bytes(8, tensor.text()).bytes(9, metadata.text());
  return value.text();
}

double seconds_of(const std::string& utc) {
  std::tm time = {};
  return ::strptime(utc.c_str(), "%Y-%m-%dT%H:%M:%SZ", &time) ? static_cast<double>(::timegm(&time)) : 0;
}

/// Step and evaluation rows of a log as event frames.
std::string events_of(const std::filesystem::path& log, double started, double seconds_per_step) {
  Message version;
  version.fixed(1, started).bytes(3, "brain.Event:2");
  std::string file = frame(version.text());
  const auto content = read_file(log);
  int64_t line = 0;
  for (size_t at = 0; at < content.size();) {
    const auto end = content.find('\n', at);
    if (end == std::string::npos) break;  // torn while it was written
    const auto row = Json::parse(content.begin() + static_cast<std::ptrdiff_t>(at),
                                 content.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    ++line;
    at = end + 1;
    if (!row.is_object() || !row.contains("step") || !row["step"].is_number_integer())
      throw DataError(fmt::format("{}:{}: is not a row of a log; attnscale fsck says more", log.string(), line));
    const auto step = row["step"].get<int64_t>();
    const std::string group = row.contains("eval") ? "validation/" : "train/";
    Message summary;
    for (const auto& [key, value] : row.items())
      if (key != "step" && value.is_number()) summary.bytes(1, scalar_value(group + key, value.get<double>()));
    Message event;
    event.fixed(1, started + seconds_per_step * static_cast<double>(step));
    event.varint(2, static_cast<uint64_t>(step)).bytes(5, summary.text());
    file += frame(event.text());
  }
  return file;
}

}  // namespace

int64_t export_tensorboard(const std::filesystem::path& sweep_folder, const std::filesystem::path& out) {
  int64_t written = 0;
  const auto sweep = read_sweep(sweep_folder);
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    const auto& run = sweep.runs[i];
    const auto log = sweep_folder / "runs" / run.id / "log.jsonl";
    if (!std::filesystem::exists(log)) continue;
    std::string name = run.variant + "-" + run.id.substr(0, 8);
    for (char& c : name)
      if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '+') c = '_';
    const double steps = std::max(1.0, number_at(sweep.rows[i], "steps").value_or(1));
    make_folder(out / name);
    write_file_atomically(out / name / "events.out.tfevents.0.attnscale",
                          events_of(log, seconds_of(text_at(sweep.rows[i], "provenance.started")),
                                    number_at(sweep.rows[i], "timing.seconds").value_or(0) / steps));
    ++written;
  }
  return written;
}

}  // namespace attnscale

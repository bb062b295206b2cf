// Apache Parquet: https://github.com/apache/parquet-format (README.md, Encodings.md, src/main/thrift/parquet.thrift).
// A file is `PAR1`, the columns' pages, the metadata, its length, `PAR1`. Numbers are little-endian.
#include "report/export_table.h"
#include "report/little_endian.h"

namespace attnscale {
namespace {

// Numbers of the specification.
enum Type { type_boolean = 0, type_int64 = 2, type_double = 5, type_byte_array = 6 };
enum Encoding { encoding_plain = 0, encoding_rle = 3 };
constexpr int optional = 1, converted_utf8 = 0, codec_uncompressed = 0, data_page = 0, format_version = 1;

/// Thrift's compact protocol, as far as Parquet's metadata need it.
class Thrift {
 public:
  enum Kind { i32 = 5, i64 = 6, binary = 8, list = 9, structure = 12 };

  Thrift& number(int field, int32_t value) { return header(field, i32).zigzag(value); }
  Thrift& number64(int field, int64_t value) { return header(field, i64).zigzag(value); }
  Thrift& text(int field, const std::string& value) { return header(field, binary).bytes(value); }
  Thrift& inner(int field, const Thrift& value) {
    header(field, structure);
    out_ += value.closed();
    return *this;
  }
  Thrift& numbers(int field, const std::vector<int32_t>& values) {
    list_header(field, i32, values.size());
    for (const auto value : values) zigzag(value);
    return *this;
  }
  Thrift& texts(int field, const std::vector<std::string>& values) {
    list_header(field, binary, values.size());
    for (const auto& value : values) bytes(value);
    return *this;
  }
  Thrift& inners(int field, const std::vector<Thrift>& values) {
    list_header(field, structure, values.size());
    for (const auto& value : values) out_ += value.closed();
    return *this;
  }
  std::string closed() const { return out_ + '\0'; }

 private:
  /// Fields come in rising order, so that each is told by its distance from the last.
  Thrift& header(int field, Kind kind) {
    out_ += static_cast<char>((field - last_) << 4 | kind);
    last_ = field;
    return *this;
  }
  void list_header(int field, Kind kind, size_t size) {
    header(field, list);
    if (size < 15) out_ += static_cast<char>(size << 4 | kind);
    else {
      out_ += static_cast<char>(0xF0 | kind);
      varint(size);
    }
  }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_ += static_cast<char>(value | 0x80);
    out_ += static_cast<char>(value);
  }
  Thrift& zigzag(int64_t value) {
    varint(static_cast<uint64_t>(value) << 1 ^ static_cast<uint64_t>(value >> 63));
    return *this;
  }
  Thrift& bytes(const std::string& value) {
    varint(value.size());
    out_ += value;
    return *this;
  }

  std::string out_;
  int last_ = 0;
};

/// Bits, the least significant of a byte first; whole bytes.
std::string packed(const std::vector<bool>& bits) {
  std::string bytes((bits.size() + 7) / 8, '\0');
  for (size_t i = 0; i < bits.size(); ++i)
    if (bits[i]) bytes[i / 8] = static_cast<char>(bytes[i / 8] | 1 << i % 8);
  return bytes;
}

/// Which rows have a value: levels 0 and 1, as one bit-packed run behind its length.
std::string definition_levels(const std::vector<bool>& present) {
  const auto bits = packed(present);
  std::string run;
  for (uint64_t header = bits.size() << 1 | 1;; header >>= 7) {
    run += static_cast<char>(header < 0x80 ? header : header | 0x80);
    if (header < 0x80) break;
  }
  run += bits;
  std::string levels;
  append_little_endian(levels, static_cast<uint32_t>(run.size()));
  return levels + run;
}

Type type_of(ColumnKind kind) {
  return kind == ColumnKind::boolean  ? type_boolean
         : kind == ColumnKind::whole  ? type_int64
         : kind == ColumnKind::number ? type_double
                                      : type_byte_array;
}

/// The page's levels and values.
std::string page_of(const ExportTable& table, size_t column, ColumnKind kind) {
  std::vector<bool> present, booleans;
  std::string values;
  for (const auto& row : table.rows) {
    const auto& cell = row[column];
    present.push_back(!cell.is_null());
    if (cell.is_null()) continue;
    if (kind == ColumnKind::boolean) booleans.push_back(cell.get<bool>());
    else if (kind == ColumnKind::whole) append_little_endian(values, cell.get<int64_t>());
    else if (kind == ColumnKind::number) append_little_endian(values, cell.get<double>());
    else {
      const auto text = text_of(cell);
      append_little_endian(values, static_cast<uint32_t>(text.size()));
      values += text;
    }
  }
  return definition_levels(present) + (kind == ColumnKind::boolean ? packed(booleans) : values);
}

}  // namespace

std::string parquet_of(const ExportTable& table) {
  std::string file = "PAR1";
  const auto num_rows = static_cast<int64_t>(table.rows.size());
  std::vector<Thrift> schema(1), chunks;
  schema[0].text(4, "runs").number(5, static_cast<int32_t>(table.columns.size()));
  int64_t total = 0;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    const auto kind = kind_of(table, i);
    Thrift element;
    element.number(1, type_of(kind)).number(3, optional).text(4, table.columns[i]);
    if (kind == ColumnKind::text) element.number(6, converted_utf8);
    schema.push_back(element);

    const auto page = page_of(table, i, kind);
    const auto size = static_cast<int32_t>(page.size());
    Thrift values, header;
    values.number(1, static_cast<int32_t>(num_rows)).number(2, encoding_plain).number(3, encoding_rle);
    values.number(4, encoding_rle);
    header.number(1, data_page).number(2, size).number(3, size).inner(5, values);
    const auto offset = static_cast<int64_t>(file.size());
    const auto head = header.closed();
    file += head + page;
    const auto bytes = static_cast<int64_t>(head.size() + page.size());
    total += bytes;
    Thrift column, chunk;
    column.number(1, type_of(kind)).numbers(2, {encoding_plain, encoding_rle}).texts(3, {table.columns[i]});
    column.number(4, codec_uncompressed).number64(5, num_rows).number64(6, bytes).number64(7, bytes);
    column.number64(9, offset);
    chunk.number64(2, offset).inner(3, column);
    chunks.push_back(chunk);
  }
  Thrift group, metadata;
  group.inners(1, chunks).number64(2, total).number64(3, num_rows);
  metadata.number(1, format_version).inners(2, schema).number64(3, num_rows).inners(4, {group});
  metadata.text(6, "attnscale");
  const auto footer = metadata.closed();
  file += footer;
  append_little_endian(file, static_cast<uint32_t>(footer.size()));
  return file + "PAR1";
}

}  // namespace attnscale

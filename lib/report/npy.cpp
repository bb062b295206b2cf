// NumPy's .npy: NEP 1, "A simple file format for NumPy arrays".

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "report/export_table.h"
#include "report/little_endian.h"

namespace attnscale {
namespace {

/// Code points of UTF-8, which `text_of` has made valid.
std::u32string code_points(const std::string& text) {
  std::u32string result;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t point = length == 1 ? lead : lead & (0x7F >> length);
    for (size_t k = 1; k < length && i + k < text.size(); ++k)
      point = point << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3F);
    result += point;
    i += length;
  }
  return result;
}

struct NpyField {
  ColumnKind kind;
  size_t width;  ///< characters of a text field
};

NpyField field_of(const ExportTable& table, size_t column) {
  NpyField field{kind_of(table, column), 1};
  for (const auto& row : table.rows) {
    const auto& cell = row[column];
    const bool counts = field.kind == ColumnKind::boolean || field.kind == ColumnKind::whole;
    if (cell.is_null() && counts) field.kind = ColumnKind::number;  // NaN says that there is none
    if (field.kind == ColumnKind::text) field.width = std::max(field.width, code_points(text_of(cell)).size());
  }
  return field;
}

std::string type_name(const NpyField& field) {
  switch (field.kind) {
    case ColumnKind::boolean:
      return "|b1";
    case ColumnKind::whole:
      return "<i8";
    case ColumnKind::number:
      return "<f8";
    case ColumnKind::text:
      break;
  }
  return fmt::format("<U{}", field.width);
}

/// A Python literal.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') result += '\\';
    result += c;
  }
  return result + "'";
}

void append_cell(std::string& to, const Json& cell, const NpyField& field) {
  switch (field.kind) {
    case ColumnKind::boolean:
      to += static_cast<char>(cell.get<bool>());
      return;
    case ColumnKind::whole:
      return append_little_endian(to, cell.get<int64_t>());
    case ColumnKind::number:
      return append_little_endian(to, cell.is_null()      ? std::numeric_limits<double>::quiet_NaN()
                                      : cell.is_boolean() ? static_cast<double>(cell.get<bool>())
                                                          : cell.get<double>());
    case ColumnKind::text:
      auto text = code_points(text_of(cell));
      text.resize(field.width, U'\0');
      for (const char32_t point : text) append_little_endian(to, point);
  }
}

}  // namespace

std::string npy_of(const ExportTable& table) {
  std::vector<NpyField> fields;
  std::string types;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    fields.push_back(field_of(table, i));
    types += fmt::format("({}, '{}'), ", quoted(table.columns[i]), type_name(fields.back()));
  }
  auto header = fmt::format("{{'descr': [{}], 'fortran_order': False, 'shape': ({},), }}", types, table.rows.size());
  // The data begin at a multiple of 64 bytes; a header beyond 64 KiB needs version 2.0, whose length has 4 bytes.
  const bool large = header.size() + 64 > 0xFFFF;
  const size_t before = large ? 12 : 10;
  header.append(63 - (before + header.size()) % 64, ' ');
  header += '\n';
  std::string file = std::string("\x93NUMPY") + static_cast<char>(large ? 2 : 1) + '\0';
  if (large) append_little_endian(file, static_cast<uint32_t>(header.size()));
  else append_little_endian(file, static_cast<uint16_t>(header.size()));
  file += header;
  for (const auto& row : table.rows)
    for (size_t i = 0; i < fields.size(); ++i) append_cell(file, row[i], fields[i]);
  return file;
}

}  // namespace attnscale

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "report/export_table.h"
#include "report/report.h"
#include "report/run_table.h"
#include "report/sweep_data.h"
#include "report/text.h"

namespace attnscale {
namespace {

using FlatRow = std::map<std::string, Json>;

FlatRow flat_row(const Json& row) {
  FlatRow flat;
  for (const auto& [path, value] : flatten(row)) {
    if (path == "schema" || path == "curve" || path.rfind("curve.", 0) == 0) continue;
    flat[path.rfind("config.", 0) == 0 ? path.substr(7) : path] = value;
  }
  return flat;
}

std::string csv_text(std::string text) {
  const bool formula = !text.empty() && std::string_view("=+-@\t\r").find(text.front()) != std::string_view::npos;
  if (formula) text.insert(text.begin(), '\'');
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + "\"";
}

std::string csv_cell(const Json& value) {
  if (value.is_null()) return "";
  if (value.is_number_float()) return exact_text(value.get<double>());
  if (value.is_number() || value.is_boolean()) return value.dump();
  return csv_text(text_of(value));
}

}  // namespace

ColumnKind kind_of(const ExportTable& table, size_t column) {
  bool boolean = true, whole = true, number = true, any = false;
  for (const auto& row : table.rows) {
    const auto& cell = row[column];
    if (cell.is_null()) continue;
    any = true;
    boolean = boolean && cell.is_boolean();
    const bool too_large = cell.is_number_unsigned() && cell.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
    whole = whole && cell.is_number_integer() && !too_large;
    number = number && cell.is_number();
  }
  return !any      ? ColumnKind::text
         : boolean ? ColumnKind::boolean
         : whole   ? ColumnKind::whole
         : number  ? ColumnKind::number
                   : ColumnKind::text;
}

std::string text_of(const Json& cell) {
  if (cell.is_null()) return "";
  // What is not UTF-8 is shown as such; no format that has texts could hold it.
  const auto text = cell.dump(-1, ' ', false, Json::error_handler_t::replace);
  return cell.is_string() ? Json::parse(text).get<std::string>() : text;
}

ExportTable runs_table(const std::filesystem::path& sweep_folder) {
  std::vector<FlatRow> rows;
  std::set<std::string> names;
  for (const Json& row : read_sweep(sweep_folder).rows) {
    rows.push_back(flat_row(row));
    for (const auto& [name, value] : rows.back()) names.insert(name);
  }
  ExportTable table{{names.begin(), names.end()}, {}};
  sort_columns(table.columns);
  for (FlatRow& row : rows) {
    auto& cells = table.rows.emplace_back();
    for (const auto& column : table.columns) {
      const auto cell = row.find(column);
      cells.push_back(cell == row.end() ? Json() : std::move(cell->second));
    }
  }
  return table;
}

ExportTable curves_table(const std::filesystem::path& sweep_folder) {
  ExportTable table{{"id", "variant", "seed", "step", "tokens", "flops", "loss"}, {}};
  const auto sweep = read_sweep(sweep_folder);
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    const Json& curve = at_path(sweep.rows[i], "curve");
    for (size_t at = 0; at < at_path(curve, "loss").size(); ++at) {
      auto& cells = table.rows.emplace_back();
      cells = {sweep.runs[i].id, sweep.runs[i].variant, at_path(sweep.rows[i], "seed")};
      for (const auto* key : {"steps", "tokens", "flops", "loss"}) {
        const Json& list = at_path(curve, key);
        cells.push_back(list.is_array() && at < list.size() ? list[at] : Json());
      }
    }
  }
  return table;
}

std::string csv_of(const ExportTable& table) {
  std::string text;
  for (const auto& column : table.columns) text += (&column == table.columns.data() ? "" : ",") + csv_text(column);
  text += '\n';
  for (const auto& row : table.rows) {
    for (size_t i = 0; i < row.size(); ++i) text += (i ? "," : "") + csv_cell(row[i]);
    text += '\n';
  }
  return text;
}

std::string jsonl_of(const ExportTable& table) {
  std::string text;
  for (const auto& row : table.rows) {
    Json object = Json::object();
    for (size_t i = 0; i < row.size(); ++i)
      if (!row[i].is_null()) object[table.columns[i]] = row[i];
    text += object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  return text;
}

std::string export_rows(const std::filesystem::path& sweep_folder, const std::string& format, bool curves) {
  const std::map<std::string, std::string (*)(const ExportTable&)> writers = {
      {"csv", csv_of}, {"jsonl", jsonl_of}, {"parquet", parquet_of}, {"npy", npy_of}};
  const auto writer = writers.find(format);
  if (writer == writers.end())
    throw ConfigError(fmt::format("--format {}: expected csv, jsonl, parquet or npy", readable(format)));
  return writer->second(curves ? curves_table(sweep_folder) : runs_table(sweep_folder));
}

}  // namespace attnscale

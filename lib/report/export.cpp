#include <algorithm>
#include <array>
#include <map>
#include <set>

#include <fmt/format.h>

#include "report/report.h"
#include "report/sweep_data.h"
#include "report/text.h"

namespace attnscale {
namespace {

constexpr std::array kFirst = {"id",     "status",   "loss",   "best_loss",   "bayes_loss",
                               "excess", "accuracy", "params", "state_bytes", "tokens",
                               "flops",  "steps",    "seed",   "diverged_at", "message"};
constexpr std::array kGroups = {"model",        "attention", "data",   "train",     "parameters",
                                "flops_ledger", "truth",     "timing", "provenance"};

/// Place of a column: the row's own first, then group by group, then what this list does not know.
std::pair<size_t, std::string> order_of(const std::string& column) {
  const auto first = std::find(kFirst.begin(), kFirst.end(), column);
  if (first != kFirst.end()) return {static_cast<size_t>(first - kFirst.begin()), ""};
  const std::string group = column.substr(0, column.find('.'));
  const auto place = static_cast<size_t>(std::find(kGroups.begin(), kGroups.end(), group) - kGroups.begin());
  return {kFirst.size() + place, column};
}

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
  if (value.is_string()) return csv_text(value.get<std::string>());
  return csv_text(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string as_csv(const std::vector<std::string>& columns, const std::vector<FlatRow>& rows) {
  std::string text;
  for (const auto& column : columns) text += (&column == columns.data() ? "" : ",") + csv_text(column);
  text += '\n';
  for (const FlatRow& row : rows) {
    for (size_t i = 0; i < columns.size(); ++i) {
      const auto cell = row.find(columns[i]);
      text += (i ? "," : "") + (cell == row.end() ? "" : csv_cell(cell->second));
    }
    text += '\n';
  }
  return text;
}

std::string as_jsonl(const std::vector<std::string>& columns, const std::vector<FlatRow>& rows) {
  std::string text;
  for (const FlatRow& row : rows) {
    Json object = Json::object();
    for (const std::string& column : columns)
      if (const auto cell = row.find(column); cell != row.end()) object[column] = cell->second;
    text += object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  return text;
}

}  // namespace

std::string export_rows(const std::filesystem::path& sweep_folder, const std::string& format) {
  if (format != "csv" && format != "jsonl") {
    throw ConfigError(fmt::format("--format {}: expected csv or jsonl", readable(format)));
  }
  std::vector<FlatRow> rows;
  std::set<std::string> names;
  for (const Json& row : read_sweep(sweep_folder).rows) {
    rows.push_back(flat_row(row));
    for (const auto& [name, value] : rows.back()) names.insert(name);
  }
  std::vector<std::string> columns(names.begin(), names.end());
  std::sort(columns.begin(), columns.end(), [](const auto& a, const auto& b) { return order_of(a) < order_of(b); });
  return format == "csv" ? as_csv(columns, rows) : as_jsonl(columns, rows);
}

}  // namespace attnscale

#include <algorithm>
#include <sstream>

#include <fmt/format.h>

#include "core/table.h"
#include "core/units.h"
#include "report/report.h"
#include "report/sweep_data.h"
#include "report/text.h"

namespace attnscale {
namespace {

constexpr size_t kWidth = 80;

struct Column {
  std::string title;
  Table::Align align;
  int worth;  ///< the least goes first when the line is too long
  std::string (*text)(const Cell&);
};

std::string whole(const std::optional<double>& value) { return value ? exact_text(*value) : ""; }
std::string count(const std::optional<double>& value) { return value ? count_text(*value) : ""; }

std::vector<Column> columns_for(const Sweep& sweep) {
  std::vector<Column> columns = {
      {"attention", Table::left, 9, [](const Cell& cell) { return readable(cell.variant); }},
      {"settings", Table::left, 7, [](const Cell& cell) { return readable(cell.settings); }},
      {"depth", Table::right, 8, [](const Cell& cell) { return whole(cell.depth); }},
      {"width", Table::right, 8, [](const Cell& cell) { return whole(cell.model_dim); }},
      {"params", Table::right, 7, [](const Cell& cell) { return count(cell.params); }},
      {"tokens", Table::right, 2, [](const Cell& cell) { return count(cell.tokens); }},
      {"FLOPs", Table::right, 1, [](const Cell& cell) { return count(cell.flops); }},
      {"runs", Table::right, 5, [](const Cell& cell) { return std::to_string(cell.runs); }},
      {"loss", Table::right, 10,
       [](const Cell& cell) { return cell.loss ? loss_text(cell.loss->mean) : std::string("-"); }},
      {"range", Table::right, 6,
       [](const Cell& cell) {
         return cell.loss && cell.loss->count > 1 ? fmt::format("{:.4f}-{:.4f}", cell.loss->low, cell.loss->high) : "";
       }},
      {"excess", Table::right, 4,
       [](const Cell& cell) { return cell.excess ? loss_text(cell.excess->mean) : std::string(); }},
      {"trouble", Table::left, 9, [](const Cell& cell) { return readable(cell.trouble); }}};
  const auto empty = [&](const Column& column) {
    return std::all_of(sweep.cells.begin(), sweep.cells.end(),
                       [&](const Cell& cell) { return column.text(cell).empty(); });
  };
  columns.erase(std::remove_if(columns.begin(), columns.end(), empty), columns.end());
  return columns;
}

std::string render(const Sweep& sweep, const std::vector<Column>& columns, size_t width) {
  Table table;
  for (const Column& column : columns) table.add_column(column.title, column.align);
  for (const Cell& cell : sweep.cells) {
    std::vector<std::string> cells;
    for (const Column& column : columns) cells.push_back(column.text(cell));
    table.add_row(std::move(cells));
  }
  return table.text(width);
}

size_t widest_line(const std::string& text) {
  std::istringstream lines(text);
  size_t widest = 0;
  for (std::string line; std::getline(lines, line);) {
    const auto shown = std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; });
    widest = std::max(widest, static_cast<size_t>(shown));
  }
  return widest;
}

}  // namespace

std::string results_table(const std::filesystem::path& sweep_folder) {
  const Sweep sweep = read_sweep(sweep_folder);
  std::vector<Column> columns = columns_for(sweep);
  const auto by_worth = [](const Column& a, const Column& b) { return a.worth < b.worth; };
  while (columns.size() > 2 && widest_line(render(sweep, columns, 100000)) > kWidth) {
    columns.erase(std::min_element(columns.begin(), columns.end(), by_worth));
  }
  return render(sweep, columns, kWidth);
}

}  // namespace attnscale

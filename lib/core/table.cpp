#include "core/table.h"

#include <algorithm>
#include <cstdlib>

#include <sys/ioctl.h>
#include <unistd.h>

namespace attnscale {
namespace {

/// Characters that a reader sees: UTF-8 continuation bytes do not count.
size_t display_width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string cut(const std::string& text, size_t width) {
  if (display_width(text) <= width) return text;
  std::string result;
  size_t shown = 0;
  for (const char c : text) {
    if ((c & 0xC0) != 0x80 && ++shown >= width) break;
    result += c;
  }
  return result + "…";
}

std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return text;
}

}  // namespace

void Table::add_column(std::string title, Align align) { columns_.push_back({std::move(title), align}); }

void Table::add_row(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (auto& cell : cells) cell = printable(std::move(cell));
  rows_.push_back(std::move(cells));
}

std::string Table::text(size_t width) const {
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t widest = display_width(columns_[i].title);
    for (const auto& row : rows_) widest = std::max(widest, display_width(row[i]));
    widths.push_back(widest);
  }
  const auto line = [&](const auto& cell) {
    std::string text;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string value = cell(i);
      const std::string fill(widths[i] - display_width(value), ' ');
      text += (i ? "  " : "") + (columns_[i].align == right ? fill + value : value + fill);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return cut(text, width) + "\n";
  };
  std::string result = line([&](size_t i) { return columns_[i].title; });
  for (const auto& row : rows_) result += line([&](size_t i) { return row[i]; });
  return result;
}

size_t terminal_width(int descriptor) {
  winsize size = {};
  if (::isatty(descriptor) && ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  if (const char* columns = std::getenv("COLUMNS"))
    if (const int value = std::atoi(columns); value >= 20) return static_cast<size_t>(value);
  return 80;
}

}  // namespace attnscale

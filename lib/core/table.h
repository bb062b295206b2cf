#pragma once

#include <string>
#include <vector>

namespace attnscale {

/// Plain text in aligned columns, cut to a width. Control characters in cells show as `?`, so that
/// a name cannot move the cursor.
class Table {
 public:
  enum Align { left, right };
  void add_column(std::string title, Align align = left);
  void add_row(std::vector<std::string> cells);

  /// @param width  columns of the terminal; wider lines are cut, with an ellipsis
  std::string text(size_t width) const;

 private:
  struct Column {
    std::string title;
    Align align;
  };
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// Columns of the terminal behind a descriptor; 80 when it is not a terminal, or COLUMNS when set.
size_t terminal_width(int descriptor);

}  // namespace attnscale

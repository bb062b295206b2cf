// Tables, units and terminal widths: what people read.

#include <cstdlib>

#include <catch2/catch_test_macros.hpp>

#include "core/table.h"
#include "core/units.h"

using namespace attnscale;

TEST_CASE("units: counts, bytes and durations read as people write them") {
  CHECK(count_text(0) == "0");
  CHECK(count_text(999) == "999");
  CHECK(count_text(1234) == "1.23k");
  CHECK(count_text(999'999) == "1M");
  CHECK(count_text(2.5e12) == "2.5T");
  CHECK(bytes_text(512) == "512 B");
  CHECK(bytes_text(1536) == "1.5 KiB");
  CHECK(bytes_text(int64_t{5} << 30) == "5.0 GiB");
  CHECK(duration_text(3.21) == "3.2s");
  CHECK(duration_text(59.6) == "1m00s");
  CHECK(duration_text(80) == "1m20s");
  CHECK(duration_text(7500) == "2h05m");
}

TEST_CASE("table: columns align, wide lines are cut, control characters cannot act") {
  Table table;
  table.add_column("name");
  table.add_column("loss", Table::right);
  table.add_row({"softmax", "1.5"});
  table.add_row({"a\x1b[2Jb", "12.25"});
  CHECK(table.text(80) ==
        "name      loss\n"
        "softmax    1.5\n"
        "a?[2Jb   12.25\n");
  CHECK(table.text(8) == "name   …\nsoftmax…\na?[2Jb …\n");
}

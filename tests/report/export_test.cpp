#include <clocale>
#include <sstream>

#include <catch2/catch_test_macros.hpp>

#include "report/export_table.h"
#include "report/report.h"
#include "report/text.h"
#include "sample_sweep.h"

using namespace attnscale;

namespace {

/// RFC 4180 reader, written apart from the writer: fields by row.
std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows(1, {""});
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') rows.back().back() += c;
      else if (i + 1 < text.size() && text[i + 1] == '"') rows.back().back() += text[i++];
      else quoted = false;
    } else if (c == '"') quoted = true;
    else if (c == ',') rows.back().emplace_back();
    else if (c == '\n') rows.push_back({""});
    else rows.back().back() += c;
  }
  rows.pop_back();
  return rows;
}

std::string cell(const std::vector<std::vector<std::string>>& table, size_t row, const std::string& column) {
  for (size_t i = 0; i < table[0].size(); ++i)
    if (table[0][i] == column) return table[row].at(i);
  return "(no column " + column + ")";
}

}  // namespace

TEST_CASE("export: numbers read back bit for bit, and columns come in one order") {
  ScratchFolder folder;
  sample::Options options{.one_diverged_one_failed = false};
  auto rows = sample::rows(options);
  sample::write_rows(folder.path, rows);
  const std::string csv = export_rows(folder.path, "csv");
  const auto table = parse_csv(csv);
  REQUIRE(table.size() == rows.size() + 1);
  for (const auto& line : table) CHECK(line.size() == table[0].size());
  CHECK(
      csv.rfind("id,status,loss,best_loss,bayes_loss,excess,params,tokens,flops,steps,seed,model.depth,model.model_dim",
                0) == 0);
  for (const Json& row : rows) {
    for (size_t i = 1; i < table.size(); ++i) {
      if (table[i][0] != row["id"]) continue;
      CHECK(std::stod(cell(table, i, "loss")) == row["loss"].get<double>());
      CHECK(std::stod(cell(table, i, "timing.seconds")) == row["timing"]["seconds"].get<double>());
    }
  }
  std::reverse(rows.begin(), rows.end());
  sample::write_rows(folder.path, rows);
  CHECK(export_rows(folder.path, "csv") == csv);
}

TEST_CASE("export: a text that a spreadsheet would run is disarmed, a negative number is not") {
  ScratchFolder folder;
  auto rows = sample::rows({.depths = {1}, .widths = {16}, .seeds = {1}, .one_diverged_one_failed = false});
  rows[0]["message"] = "=cmd|' /C calc'!A0, \"quoted\"\nsecond line";
  rows[0]["excess"] = -0.25;
  rows[1]["message"] = "plain";
  sample::write_rows(folder.path, rows);
  const auto table = parse_csv(export_rows(folder.path, "csv"));
  CHECK(cell(table, 1, "message") == "'=cmd|' /C calc'!A0, \"quoted\"\nsecond line");
  CHECK(cell(table, 1, "excess") == "-0.25");
  CHECK(cell(table, 2, "message") == "plain");
  for (const char* opener : {"+", "-", "@", "\t", "\r"}) {
    rows[0]["message"] = std::string(opener) + "1";
    sample::write_rows(folder.path, rows);
    CHECK(cell(parse_csv(export_rows(folder.path, "csv")), 1, "message") == "'" + std::string(opener) + "1");
  }
}

TEST_CASE("export: a comma for the decimal point in the locale changes no byte") {
  ScratchFolder folder;
  sample::write(folder.path, {});
  const std::string before = export_rows(folder.path, "csv");
  const bool german = std::setlocale(LC_NUMERIC, "de_DE.UTF-8") || std::setlocale(LC_NUMERIC, "de_DE");
  const std::string after = export_rows(folder.path, "csv");
  std::setlocale(LC_NUMERIC, "C");
  if (!german) SKIP("this machine has no German locale");
  CHECK(before == after);
}

TEST_CASE("export: jsonl rows are flat and equal the results") {
  ScratchFolder folder;
  sample::write(folder.path, {});
  std::istringstream lines(export_rows(folder.path, "jsonl"));
  size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const Json row = Json::parse(line);
    for (const auto& [key, value] : row.items()) CHECK_FALSE(value.is_object());
    CHECK(row["model.depth"].is_number_integer());
    CHECK(row.contains("loss") == (row["status"] == "done"));
  }
  CHECK(count == 54);
  CHECK_THROWS_AS(export_rows(folder.path, "xlsx"), ConfigError);
}

TEST_CASE("export: typed columns take the narrowest type that all their cells have") {
  const ExportTable table{
      {"b", "i", "x", "t", "mixed", "none", "large"},
      {{true, 1, 0.5, "a", 1, nullptr, 18446744073709551615U}, {nullptr, -2, 3, "é", "x", nullptr, 1}}};
  const ColumnKind expected[] = {ColumnKind::boolean, ColumnKind::whole, ColumnKind::number, ColumnKind::text,
                                 ColumnKind::text,    ColumnKind::text,  ColumnKind::number};
  for (size_t i = 0; i < table.columns.size(); ++i) CHECK(kind_of(table, i) == expected[i]);
  CHECK(text_of(Json("a\xff")) == "a\xef\xbf\xbd");
  CHECK(text_of(Json::array({1, "a"})) == "[1,\"a\"]");
}

TEST_CASE("export: an npy file is its header at a multiple of 64 bytes, then the records") {
  const auto file = npy_of({{"n", "it's"}, {{1, "é"}, {2, ""}}});
  const std::string head = "{'descr': [('n', '<i8'), ('it\\'s', '<U1'), ], 'fortran_order': False, 'shape': (2,), }";
  CHECK(file.substr(10, head.size()) == head);
  CHECK(file.size() == 128 + 2 * (8 + 4));
  CHECK(file[127] == '\n');
  CHECK(file.substr(128) == std::string("\1\0\0\0\0\0\0\0\xE9\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0", 24));
}

TEST_CASE("export: minus zero keeps its sign") { CHECK(exact_text(-0.0) == "-0"); }

TEST_CASE("export: curves have a row for each evaluation") {
  ScratchFolder folder;
  const auto rows = sample::rows({.depths = {1}, .widths = {16}, .seeds = {1}, .one_diverged_one_failed = false});
  sample::write_rows(folder.path, rows);
  const auto table = curves_table(folder.path);
  REQUIRE(table.rows.size() == 40);
  CHECK(table.rows[1][3] == 50);
  CHECK(table.rows[1][6] == rows[0]["curve"]["loss"][1]);
}

TEST_CASE("results_table: every line fits 80 columns, however long the names") {
  ScratchFolder folder;
  sample::write(folder.path, {.variants = {"softmax", std::string(70, 'w') + "\x1b[2J"}});
  std::istringstream lines(results_table(folder.path));
  size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto shown = std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; });
    CHECK(shown <= 80);
    CHECK(line.find('\x1b') == std::string::npos);
  }
  CHECK(count == 1 + 18);
  sample::write(folder.path, {});
  const std::string text = results_table(folder.path);
  CHECK(text.find("1 diverged") != std::string::npos);
  CHECK(text.find("1 failed") != std::string::npos);
}

TEST_CASE("export: results without a row, or with a wrong type, are refused by name") {
  ScratchFolder folder;
  write_file_atomically(folder.path / "results.jsonl", "");
  CHECK_THROWS_AS(export_rows(folder.path, "csv"), DataError);
  write_file_atomically(folder.path / "results.jsonl", "{\"id\":\"a\",\"status\":1}\n");
  CHECK_THROWS_AS(export_rows(folder.path, "csv"), DataError);
  CHECK_THROWS_AS(write_report(folder.path), DataError);
}

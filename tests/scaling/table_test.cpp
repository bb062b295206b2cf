#include "scaling/table.h"

#include <cmath>
#include <functional>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "scaling/scaling.h"
#include "support.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

const auto columns = ColumnMap::parse("N=params,D=tokens,L=loss,run=name");

/// What the reader says about a file that it refuses; a file that it takes fails the test.
std::string refusal(const std::string& name, const std::string& content, const ColumnMap& map = columns) {
  TemporaryFolder folder;
  try {
    read_points(folder.write(name, content), map);
  } catch (const DataError& error) {
    return error.what();
  }
  FAIL("was taken: " << content);
  return "";
}

}  // namespace

TEST_CASE("table: a CSV with quotes, doubled quotes, a line break in a field and CRLF is read by columns") {
  TemporaryFolder folder;
  const auto file = folder.write("t.csv",
                                 "\xEF\xBB\xBFname,params,tokens,loss\r\n\"a, \"\"b\"\"\r\nc\",1e3, 2000 ,+3.5\r\n\r\n"
                                 "d,4000,5000,2.5");
  const auto points = read_points(file, columns);
  REQUIRE(points.size() == 2);
  CHECK(points[0].run == "a, \"b\"\r\nc");
  CHECK(points[0].N == 1000);
  CHECK(points[0].D == 2000);
  CHECK(points[0].L == 3.5);
  // The field's line break counts: the second record stands in line 5.
  CHECK(points[1].place == file.string() + ":5");
  CHECK(points[1].L == 2.5);
}

TEST_CASE("table: semicolons and tabs are found by themselves") {
  TemporaryFolder folder;
  CHECK(read_points(folder.write("a.csv", "name;params;tokens;loss\nx;1;2;3\n"), columns)[0].L == 3);
  CHECK(read_points(folder.write("a.tsv", "name\tparams\ttokens\tloss\nx\t1\t2\t3\n"), columns)[0].D == 2);
}

TEST_CASE("table: a JSON list, JSONL and a scaling.json give the same points as the CSV") {
  TemporaryFolder folder;
  const std::string row = R"({"name": "x", "params": 10, "tokens": 20, "loss": 1.5})";
  for (const auto& file : {folder.write("t.csv", "name,params,tokens,loss\nx,10,20,1.5\n"),
                           folder.write("t.json", "[" + row + "]"), folder.write("t.jsonl", row + "\n"),
                           folder.write("scaling.json", R"({"schema": "x", "points": [)" + row + "]}")}) {
    const auto points = read_points(file, columns);
    REQUIRE(points.size() == 1);
    CHECK(points[0].run == "x");
    CHECK(points[0].N == 10);
    CHECK(points[0].D == 20);
    CHECK(points[0].L == 1.5);
  }
}

TEST_CASE("table: a sweep folder is read by its default columns, nested ones included; a torn last row is left out") {
  TemporaryFolder folder;
  folder.write("results.jsonl", R"({"id":"a","status":"done","loss":2.5,"params":10,"tokens":20,"flops":30,"seed":7,)"
                                R"("config":{"attention":{"variant":"softmax"}}})"
                                "\n"
                                R"({"id":"b","status":"diverged","params":10,"tokens":20,"diverged_at":3})"
                                "\n"
                                R"({"id":"c","sta)");
  const auto points = read_points(folder.path(), {});
  REQUIRE(points.size() == 2);
  CHECK(points[0].run == "a");
  CHECK(points[0].variant == "softmax");
  CHECK(points[0].C == 30);
  CHECK(points[0].seed == 7);
  CHECK_FALSE(points[1].done());
}

TEST_CASE("table: a missing column is named with those that exist and the nearest") {
  const auto message = refusal("t.csv", "name,params,token,loss\nx,1,2,3\n");
  CHECK_THAT(message, ContainsSubstring("t.csv") && ContainsSubstring("no column \"tokens\" for D"));
  CHECK_THAT(message, ContainsSubstring("did you mean \"token\"?") && ContainsSubstring("name, params, token, loss"));
  CHECK_THAT(refusal("t.jsonl", R"({"name":"x","params":1,"tokens":2,"final":3})"
                                "\n"),
             ContainsSubstring("no column \"loss\" for L") && ContainsSubstring("final"));
  CHECK_THAT(refusal("t.csv", "loss\n3\n", {}), ContainsSubstring("neither a column for N"));
}

TEST_CASE("table: bad numbers are all reported, each with its line") {
  const auto message = refusal("t.csv",
                               "name,params,tokens,loss\nx,1,2,NaN\nx,1,2,-0.5\nx,0,2,1\nx,1,abc,1\nx,1,2,inf\nx,1,2,\n"
                               "x,1,2,1e400\nx,1,2,3,2\nx,1,2,\"1,5\"\nok,1,2,3\n");
  for (const char* expected :
       {"t.csv:2: column \"loss\" (L): received \"NaN\"",
        "t.csv:3: column \"loss\" (L): received "
        "\"-0.5\"",
        "t.csv:4: column \"params\" (N): received \"0\"", "t.csv:5: column \"tokens\"",
        "t.csv:6:", "t.csv:7:", "t.csv:8:", "t.csv:9: has 5 fields; the header has 4", "t.csv:10:"})
    CHECK_THAT(message, ContainsSubstring(expected));
  CHECK_THAT(message, !ContainsSubstring("t.csv:11"));
  CHECK_THAT(refusal("t.jsonl", "{\"name\":\"x\",\"params\":1,\"tokens\":2,\"loss\":\"3\"}\n"),
             ContainsSubstring("t.jsonl:1") && ContainsSubstring("the text \"3\""));
  CHECK_THAT(refusal("t.jsonl", "{\"params\":1,\"tokens\":2,\"loss\":3,\"name\":\"a\"}\n{\"loss\":NaN}\n"),
             ContainsSubstring("t.jsonl:2:"));
  CHECK_THAT(refusal("t.jsonl", "{\"params\":1,\"tokens\":2,\"loss\":3,\"name\":\"a\"}\n{\"params\":1,\"tokens\":2}\n"),
             ContainsSubstring("t.jsonl:2: column \"loss\" (L) is missing in this row"));
}

TEST_CASE("table: a row without the parameters that others have is refused, not read as zero") {
  CHECK_THAT(refusal("t.jsonl", "{\"params\":1,\"tokens\":2,\"loss\":3}\n{\"tokens\":2,\"loss\":3}\n", {}),
             ContainsSubstring("t.jsonl:2: column \"params\" (N) is missing"));
}

TEST_CASE("table: thousands of bad rows give twenty messages and a count") {
  std::string text = "name,params,tokens,loss\n";
  for (int i = 0; i < 5000; ++i) text += "x,1,2,-1\n";
  const auto message = refusal("t.csv", text);
  CHECK(std::count(message.begin(), message.end(), '\n') == 20);
  CHECK_THAT(message, ContainsSubstring("and 4980 more"));
}

TEST_CASE("table: files that are no tables are refused by name") {
  CHECK_THAT(refusal("t.csv", std::string("\x7f"
                                          "ELF\0\1\2",
                                          7)),
             ContainsSubstring("is not a text file (byte 0x00"));
  CHECK_THAT(refusal("t.csv", ""), ContainsSubstring("is empty"));
  CHECK_THAT(refusal("t.csv", "name,params,tokens,loss\n"), ContainsSubstring("has no rows"));
  CHECK_THAT(refusal("t.csv", "name,params,tokens,loss\n\"x,1,2,3\n"), ContainsSubstring(":2: a quote opens here"));
  CHECK_THAT(refusal("t.txt", "It was the best of times,\nit was the worst of times\n"), ContainsSubstring("columns:"));
  CHECK_THAT(refusal("t.json", "[1, 2]"), ContainsSubstring("expected an object"));
  CHECK_THAT(refusal("t.json", "{\"a\": 1}"), ContainsSubstring("expected a list"));
  TemporaryFolder folder;
  CHECK_THROWS_AS(read_points(folder.path(), {}), DataError);
  CHECK_THROWS_AS(read_points(folder.path() / "absent.csv", {}), IoError);
}

TEST_CASE("table: column maps with an unknown, repeated or empty role are refused") {
  for (const char* text : {"M=params", "N=a,N=b", "N", "N=", "N=a,,L=b"})
    CHECK_THROWS_AS(ColumnMap::parse(text), ConfigError);
  CHECK(ColumnMap::parse("N = params , L=loss").columns.at("N") == "params");
}

TEST_CASE("table: one column cannot have two roles, neither both by name nor one of them by default") {
  CHECK_THROWS_AS(ColumnMap::parse("N=params,D=params"), ConfigError);
  TemporaryFolder folder;
  const auto file = folder.write("t.csv", "id,params,tokens,loss\nx,1,2,3\n");
  CHECK_THROWS_WITH(read_points(file, ColumnMap::parse("N=tokens")),
                    ContainsSubstring("is given for N, and is by default the one for D"));
  // A name is not missed: the column goes where it was asked for.
  CHECK(read_points(file, ColumnMap::parse("variant=id"))[0].run.empty());
}

TEST_CASE("table: rows of one run and seeds of one cell are one group, and what they link") {
  std::vector<Point> points(5);
  points[0].run = "a", points[0].N = 1, points[0].D = 1;
  points[1].run = "a", points[1].N = 1, points[1].D = 2;  // a later checkpoint of the same run
  points[2].run = "b", points[2].N = 1, points[2].D = 2;  // another seed of that cell
  points[3].run = "c", points[3].N = 2, points[3].D = 1;
  points[4].run = "d", points[4].N = 2, points[4].D = 1, points[4].variant = "linear";
  CHECK(independent_groups(points) == std::vector<int>{0, 0, 0, 1, 2});
}

TEST_CASE("column map: N and C are counted by any of their ledgers, and the fit is of that count") {
  std::string text;
  for (const double N : {1e3, 4e3, 1.6e4, 6.4e4})
    for (const double D : {1e5, 4e5, 1.6e6}) {
      // The law holds in the count without embeddings; the total has 5,000 more.
      Json row = {{"id", std::to_string(N * D)}, {"params", N + 5000}, {"tokens", D}, {"loss", Surface{}(N, D)}};
      row["parameters"] = {{"total", N + 5000}, {"non_embedding", N}};
      row["flops"] = 7 * N * D;
      row["flops_ledger"] = {{"six_n", 6 * N * D}};
      text += row.dump() + "\n";
    }
  TemporaryFolder folder;
  const auto file = folder.write("rows.jsonl", text);
  ColumnMap map;
  map.count_by("N", "non_embedding");
  map.count_by("C", "six_n");
  CHECK(read_points(file, map)[0].N == 1e3);
  CHECK(read_points(file, map)[0].C == 6e8);
  CHECK(read_points(file, {})[0].N == 6e3);
  const auto report = fit_of_path(file, map, {.replicates = 0});
  CHECK(report["ledgers"]["N"] == "parameters.non_embedding");
  CHECK(report["ledgers"]["C"] == "flops_ledger.six_n");
  CHECK(std::abs(report["forms"]["L(N,D)"]["alpha"].get<double>() - 0.34) < 1e-6);
  CHECK(std::abs(fit_of_path(file, {}, {.replicates = 0})["forms"]["L(N,D)"]["alpha"].get<double>() - 0.34) > 0.01);
  CHECK_THROWS_AS(map.count_by("N", "total"), ConfigError);
  CHECK_THROWS_AS(ColumnMap{}.count_by("N", "all"), ConfigError);
  ColumnMap absent;
  absent.count_by("N", "standard_block");
  CHECK_THROWS_WITH(read_points(file, absent),
                    Catch::Matchers::ContainsSubstring("no column \"parameters.standard_block\""));
}

#include "report/run_table.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "sample_sweep.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("run table: cells are the values of the file, whatever order its keys come in") {
  ScratchFolder folder;
  write_file_atomically(
      folder.path / "results.jsonl",
      R"({"id":"a","loss":0.1,"config":{"model":{"depth":2,"bias":true},"attention":{"variant":"x\u00e9"}}}
{"config":{"attention":{"variant":"y","window":8},"model":{"bias":false,"depth":18446744073709551615}},"id":"b","flags":["p"]}
)");
  const auto table = RunTable::read(folder.path);
  CHECK(table.num_rows() == 2);
  CHECK(table.paths() == std::vector<std::string>{"id", "loss", "flags", "model.bias", "model.depth",
                                                  "attention.variant", "attention.window"});
  const auto cells = table.cells({"model.depth", "loss", "attention.window", "attention.variant", "flags", "absent"});
  CHECK(cells[0] == std::vector<Json>{2, 0.1, nullptr, "xé", nullptr, nullptr});
  CHECK(cells[1] == std::vector<Json>{18446744073709551615U, nullptr, 8, "y", Json::array({"p"}), nullptr});
  // The window is an option of one variant, which is no difference between the runs by itself.
  CHECK(table.varying_settings() == std::vector<std::string>{"model.bias", "model.depth", "attention.variant"});
}

TEST_CASE("run table: short names stand for the one path that ends so") {
  ScratchFolder folder;
  write_file_atomically(
      folder.path / "results.jsonl",
      R"({"id":"a","steps":3,"config":{"model":{"depth":2,"norm":"n"},"train":{"steps":3,"norm":1}},"timing":{"seconds":1}})"
      "\n");
  const auto table = RunTable::read(folder.path);
  CHECK(table.resolve("depth") == "model.depth");
  CHECK(table.resolve("model.depth") == "model.depth");
  CHECK(table.resolve("config.model.depth") == "model.depth");
  CHECK(table.resolve("steps") == "steps");
  CHECK(table.resolve("message") == "message");  // of runs that failed; here there is none
  CHECK_THROWS_WITH(table.resolve("norm"), ContainsSubstring("norm may be model.norm or train.norm"));
  CHECK_THROWS_WITH(table.resolve("secnds"), ContainsSubstring("did you mean \"seconds\"?"));
  CHECK(table.short_name("model.depth") == "depth");
  CHECK(table.short_name("train.steps") == "train.steps");
  CHECK(table.short_name("train.norm") == "train.norm");
  CHECK(table.short_name(".absent") == ".absent");  // below a key of no letters
}

TEST_CASE("run table: of two rows with one id the last counts, and a torn last line is left out") {
  ScratchFolder folder;
  write_file_atomically(folder.path / "results.jsonl",
                        "{\"id\":\"a\",\"loss\":2}\n{\"id\":\"b\"}\n{\"id\":\"a\",\"loss\":1}\n{\"id\":\"c\",\"lo");
  const auto table = RunTable::read(folder.path);
  CHECK(table.cells({"id", "loss"}) == std::vector<std::vector<Json>>{{"a", 1}, {"b", nullptr}});
}

TEST_CASE("run table: what is not a row is refused by file and line") {
  ScratchFolder folder;
  CHECK_THROWS_AS(RunTable::read(folder.path / "absent"), IoError);
  CHECK_THROWS_WITH(RunTable::read(folder.path), ContainsSubstring("without results.jsonl"));
  const auto refused = [&](const std::string& text, const std::string& message) {
    write_file_atomically(folder.path / "results.jsonl", text);
    CHECK_THROWS_WITH(RunTable::read(folder.path), ContainsSubstring(message));
  };
  refused("", "has no rows");
  refused("{\"id\":\"a\"}\n{\"id\":\n", "results.jsonl:2: is not a row");
  refused("{\"id\":\"a\"}\n[1]\n", "results.jsonl:2: is not a row");
  refused("{\"loss\":1}\n", "results.jsonl:1: id: is missing");
  refused("{\"id\":\"\xff\"}\n", "results.jsonl:1: is not a row");
}

TEST_CASE("run table: what was watched of the blocks is one column, a list for each look") {
  ScratchFolder folder;
  write_file_atomically(
      folder.path / "results.jsonl",
      R"({"id":"a","watch":{"steps":[1,9],"layers":{"blocks.0":{"norm":[1,2]},"blocks.1":{"norm":[3,4]},"embedding":{"norm":[5,6]}}}}
{"id":"b","watch":{"steps":[1],"layers":{"blocks.0":{"norm":[7]}}}}
{"id":"c","loss":2}
)");
  const auto table = RunTable::read(folder.path);
  CHECK(table.resolve("blocks.norm") == "blocks.norm");
  const auto cells = table.cells({"loss", "blocks.norm", "id"});
  CHECK(cells[0] == std::vector<Json>{nullptr, Json::array({{1, 3}, {2, 4}}), "a"});
  CHECK(cells[1] == std::vector<Json>{nullptr, Json::array({Json::array({7})}), "b"});
  CHECK(cells[2] == std::vector<Json>{2, nullptr, "c"});
  CHECK_THROWS_WITH(table.resolve("blocks.nrm"), ContainsSubstring("unknown column blocks.nrm"));
}

#include "report/run_query.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "sample_sweep.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

struct SampleTable {
  ScratchFolder folder;
  std::vector<Json> rows = sample::rows({});
  SampleTable() { sample::write_rows(folder.path, rows); }
  RunAnswer ask(const RunQuery& query) const { return attnscale::ask(RunTable::read(folder.path), query); }
};

}  // namespace

TEST_CASE("run query: the condition and the order are those of a loop over the rows") {
  const SampleTable f;
  const auto answer =
      f.ask({.where = "attention.variant == 'softmax' and depth > 1", .sort = "loss", .columns = "id, loss"});
  std::vector<std::vector<Json>> expected;
  for (const auto& row : f.rows)
    if (row["config"]["attention"]["variant"] == "softmax" && row["config"]["model"]["depth"] > 1)
      expected.push_back({row["id"], row["loss"]});
  std::sort(expected.begin(), expected.end(), [](const auto& a, const auto& b) { return a[1] < b[1]; });
  CHECK(expected.size() == 18);
  CHECK(answer.rows == expected);
  CHECK(answer.matching == 18);
}

TEST_CASE("run query: runs without the value come last in both directions, and the limit keeps the first") {
  const SampleTable f;
  for (const bool descending : {false, true}) {
    const auto answer = f.ask({.sort = "loss", .descending = descending, .columns = "loss"});
    CHECK(answer.rows.size() == 54);
    for (size_t i = 0; i < 54; ++i) CHECK(answer.rows[i][0].is_null() == (i >= 52));
    for (size_t i = 1; i < 52; ++i) CHECK((answer.rows[i - 1][0] < answer.rows[i][0]) != descending);
  }
  const auto first = f.ask({.sort = "loss", .columns = "loss", .limit = 5});
  CHECK(first.rows.size() == 5);
  CHECK(first.matching == 54);
}

TEST_CASE("run query: columns may be formulas; left out, they are what tells the runs apart") {
  const SampleTable f;
  const auto answer = f.ask({.where = "status == 'done'", .columns = "depth, flops / tokens"});
  CHECK(answer.titles == std::vector<std::string>{"depth", "flops / tokens"});
  CHECK(answer.rows[0][1] == f.rows[1]["flops"].get<double>() / f.rows[1]["tokens"].get<double>());
  CHECK(f.ask({}).titles == std::vector<std::string>{"id", "status", "attention.variant", "depth", "model_dim", "seed",
                                                     "params", "tokens", "loss", "excess"});
  CHECK(f.ask({.columns = "*"}).titles.size() == RunTable::read(f.folder.path).paths().size());
}

TEST_CASE("run query: a mistake is named with the part of the question that holds it") {
  const SampleTable f;
  const auto refused = [&](const RunQuery& query, const std::string& message) {
    CHECK_THROWS_WITH(f.ask(query), ContainsSubstring(message));
  };
  refused({.where = "dpth > 1"}, "--where: unknown column dpth; did you mean \"depth\"?");
  refused({.where = "depth"}, "--where: \"depth\": received the number 1, expected a condition");
  refused({.sort = "loss +"}, "--sort: \"loss +\": column 7");
  refused({.columns = "id, lss"}, "--columns: unknown column lss; did you mean \"loss\"?");
}

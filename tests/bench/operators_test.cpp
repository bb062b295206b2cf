#include "bench/operators.h"

#include <map>

#include <ATen/ATen.h>
#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

namespace {

std::map<std::string, Json> by_name(const Json& result) {
  std::map<std::string, Json> rows;
  for (const auto& row : result["operators"]) rows[row["operator"].get<std::string>()] = row;
  return rows;
}

}  // namespace

TEST_CASE("operators: calls are counted of one call of the work, the call that is not watched left out") {
  const auto x = at::ones({8, 8});
  int calls = 0;
  const auto rows = by_name(operator_times(
      [&] {
        ++calls;
        x.exp();
        x.exp();
        if (calls % 2 == 0) x.tanh();
      },
      4, Clock::wall));
  CHECK(calls == 5);
  CHECK(rows.at("aten::exp")["calls"] == 2);
  CHECK(rows.at("aten::tanh")["calls"] == 0.5);
  CHECK_FALSE(rows.contains("aten::sin"));
}

TEST_CASE("operators: times add up to the whole, an operator's without those that it calls") {
  const auto x = at::ones({200, 200});
  const auto result = operator_times([&] { at::linear(x, x); }, 20, Clock::wall);
  double sum = 0, share = 0;
  for (const auto& row : result["operators"]) {
    CHECK(row["ms"].get<double>() >= 0);
    sum += row["ms"].get<double>();
    share += row["share"].get<double>();
  }
  CHECK(std::abs(sum / result["ms"].get<double>() - 1) < 1e-9);
  CHECK(std::abs(share - 1) < 1e-9);
  // The product is inside: what the outer operator does by itself is little beside it.
  const auto rows = by_name(result);
  const auto& product = rows.contains("aten::mm") ? rows.at("aten::mm") : rows.at("aten::addmm");
  CHECK(product["ms"].get<double>() > rows.at("aten::linear")["ms"].get<double>());
  CHECK(result["operators"].back()["operator"] == "rest");
}

TEST_CASE("operators: the longest come first, the rest last, and what comes later is not watched") {
  const auto large = at::ones({300, 300}), small = at::ones({2});
  const auto work = [&] {
    small.exp();
    large.mm(large);
  };
  const auto rows = operator_times(work, 5, Clock::processor)["operators"];
  CHECK(rows[0]["operator"] == "aten::mm");
  for (size_t i = 2; i + 1 < rows.size(); ++i) CHECK(rows[i - 1]["ms"] >= rows[i]["ms"]);
  for (int i = 0; i < 3; ++i) large.tanh();
  const auto again = by_name(operator_times(work, 1, Clock::wall));
  CHECK(again.at("aten::exp")["calls"] == 1);
  CHECK_FALSE(again.contains("aten::tanh"));
}

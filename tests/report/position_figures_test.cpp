#include <algorithm>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "report/figures.h"
#include "sample_sweep.h"

using namespace attnscale;
using Catch::Approx;

namespace {

const Figure* position_figure(const Figures& figures) {
  const auto found = std::find_if(figures.drawn.begin(), figures.drawn.end(),
                                  [](const Figure& figure) { return figure.id == "loss-by-position"; });
  return found == figures.drawn.end() ? nullptr : &*found;
}

}  // namespace

TEST_CASE(
    "loss by position: the best size of each variant, the mean over its seeds in each bin, beside the Bayes loss") {
  ScratchFolder folder;
  sample::write(folder.path, {.variants = {"softmax", "linear"}, .one_diverged_one_failed = false});
  const Sweep sweep = read_sweep(folder.path);
  Figures figures;
  add_loss_by_position(sweep, figures);
  const auto* figure = position_figure(figures);
  REQUIRE(figure);
  double best = 1e9;
  for (const Cell& cell : sweep.cells)
    if (cell.variant == "softmax") best = std::min(best, cell.loss->mean);
  std::vector<Json> means, truths;
  for (const Json& row : figure->spec["data"]["values"])
    if (row["variant"] == "softmax") (row["kind"] == "mean" ? means : truths).push_back(row);
  REQUIRE(means.size() == 3);
  REQUIRE(truths.size() == 3);
  CHECK(means[0]["y"].get<double>() == Approx(best + 0.5).epsilon(1e-5));
  CHECK(means[2]["y"].get<double>() == Approx(best - 0.1).epsilon(1e-5));
  CHECK(means[2]["x"].get<double>() == Approx(std::sqrt(28.0)).epsilon(1e-5));
  CHECK(means[1]["low"].get<double>() < means[1]["y"].get<double>());
  CHECK(truths[1]["y"] == 1.8);
}

TEST_CASE("loss by position: many variants get a panel each, and rows without positions no picture") {
  ScratchFolder folder;
  sample::write(folder.path, {.variants = {"softmax", "a", "b", "c", "d", "e", "f", "g", "h"}, .depths = {1}});
  Figures figures;
  add_loss_by_position(read_sweep(folder.path), figures);
  REQUIRE(position_figure(figures));
  CHECK(position_figure(figures)->spec["facet"]["field"] == "variant");

  Sweep sweep = read_sweep(folder.path);
  for (Json& row : sweep.rows) row.erase("positions");
  Figures none;
  add_loss_by_position(sweep, none);
  CHECK(none.drawn.empty());
  REQUIRE(none.missing.size() == 1);
  CHECK(none.missing[0].id == "loss-by-position");
}

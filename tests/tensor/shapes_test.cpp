#include "tensor/shapes.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include "core/error.h"

using namespace attnscale;
using Catch::Matchers::Message;

TEST_CASE("shapes: letters take the sizes of the tensors") {
  const auto query = torch::zeros({2, 4, 9, 8}), key = torch::zeros({2, 1, 7, 8});
  const auto letters = check_shapes("f", {{"query", query, "B H T D"}, {"key", key, "B G S D"}});
  CHECK(letters == ShapeLetters{{"B", 2}, {"H", 4}, {"T", 9}, {"D", 8}, {"G", 1}, {"S", 7}});
}

TEST_CASE("shapes: a shared letter must stand for one size") {
  const auto query = torch::zeros({2, 9}), key = torch::zeros({3, 9});
  CHECK_THROWS_MATCHES(check_shapes("f", {{"query", query, "B T"}, {"key", key, "B T"}}), ShapeError,
                       Message("f: key is [3, 9], expected [B T] with B = 2 as in the tensors before it"));
}

TEST_CASE("shapes: a letter repeated inside one tensor must agree too") {
  const auto square = torch::zeros({3, 3}), oblong = torch::zeros({3, 4});
  CHECK_NOTHROW(check_shapes("f", {{"weights", square, "T T"}}));
  CHECK_THROWS_AS(check_shapes("f", {{"weights", oblong, "T T"}}), ShapeError);
}

TEST_CASE("shapes: numbers must match and stars match all") {
  const auto image = torch::zeros({5, 3});
  CHECK_NOTHROW(check_shapes("f", {{"image", image, "* 3"}}));
  CHECK_THROWS_MATCHES(check_shapes("f", {{"image", image, "* 4"}}), ShapeError,
                       Message("f: image is [5, 3], expected [* 4]"));
}

TEST_CASE("shapes: the number of dimensions must match") {
  const auto vector = torch::zeros({5});
  CHECK_THROWS_MATCHES(check_shapes("f", {{"bias", vector, "H T"}}), ShapeError,
                       Message("f: bias is [5], expected [H T]"));
  CHECK(check_shapes("f", {{"scale", torch::tensor(1.0), ""}}).empty());
}

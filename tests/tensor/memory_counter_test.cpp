#include "tensor/memory_counter.h"

#include <torch/types.h>

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

TEST_CASE("memory counter: the largest sum of blocks that lived together") {
  const auto before = torch::zeros({1000});
  const MemoryCounter counter;
  CHECK(counter.peak() == 0);
  {
    const auto a = torch::empty({1000}, torch::kFloat64);
    const auto b = torch::empty({500}, torch::kFloat32);
    CHECK(counter.current() == 8000 + 2000);
  }
  CHECK(counter.current() == 0);
  const auto c = torch::empty({100}, torch::kFloat32);
  CHECK(counter.current() == 400);
  CHECK(counter.peak() == 10000);
}

TEST_CASE("memory counter: what a backward pass keeps and makes") {
  constexpr int64_t bytes = 4 * 256 * 256;
  const auto x = torch::randn({256, 256}).set_requires_grad(true);
  const MemoryCounter counter;
  auto y = x.exp().sin();  // each keeps a tensor for its gradient
  CHECK(counter.current() == 2 * bytes);
  y.sum().backward();
  CHECK(counter.peak() >= 3 * bytes);  // and the gradient of one of them, at least
  CHECK(counter.peak() <= 6 * bytes);
  y.reset();
  CHECK(counter.current() == bytes);  // the gradient of x
}

TEST_CASE("memory counter: an inner counter sees only its own work") {
  const MemoryCounter outer;
  {
    const MemoryCounter inner;
    const auto a = torch::empty({100}, torch::kFloat32);
    CHECK(inner.peak() == 400);
  }
  CHECK(outer.peak() == 0);
  const auto a = torch::empty({10}, torch::kFloat32);
  CHECK(outer.peak() == 40);
}

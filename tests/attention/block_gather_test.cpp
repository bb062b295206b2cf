// Attention by a pattern keeps the tiles that it laid out, and lays out others where their number changes.

#include "attention/block_gather.h"

#include <atomic>
#include <memory>
#include <thread>

#include <ATen/ATen.h>
#include <catch2/catch_test_macros.hpp>

#include "tensor/kernels/attention_kernel.h"
#include "tensor/kernels/kernels.h"

using namespace attnscale;

namespace {

/// A causal band, and how often anyone asked which blocks a row reads.
struct Counted {
  std::shared_ptr<std::atomic<int>> asked = std::make_shared<std::atomic<int>>(0);
  PatternAttention attention{[this] {
    auto pattern = band_pattern(20, 0);
    pattern.key_blocks = [asked = asked, blocks = pattern.key_blocks](int64_t row, int64_t rows) {
      ++*asked;
      return blocks(row, rows);
    };
    return pattern;
  }()};
};

Inputs some_inputs(int64_t positions) {
  const auto random = [&] { return at::randn({1, 2, positions, 8}); };
  return {.query = random(), .key = random(), .value = random()};
}

/// By hand: every pair, those outside of the band hidden.
Tensor by_mask(const Inputs& in) {
  const auto at = at::arange(in.query.size(2));
  const auto distance = at.unsqueeze(1) - at;
  const auto logits = at::matmul(in.query, in.key.mT()) / std::sqrt(8.0);
  const auto hidden = distance.lt(0).logical_or(distance.gt(20));
  return at::matmul(at::softmax(logits.masked_fill(hidden, -INFINITY), -1), in.value);
}

}  // namespace

TEST_CASE("block_gather: tiles are laid out once for calls of as many positions") {
  const Counted counted;
  const auto first = counted.attention.tiles(130);
  const int once = *counted.asked;
  CHECK(once > 0);
  CHECK(first.pairs == pattern_work(band_pattern(20, 0), 130).pairs);
  CHECK(counted.attention.tiles(130).layout == first.layout);
  CHECK(*counted.asked == once);
  CHECK(counted.attention.tiles(65).layout != first.layout);
  CHECK(*counted.asked > once);
  if (!has_kernels(at::kFloat)) SKIP("this processor has no kernels");
  counted.attention.forward(some_inputs(130));
  const int before = *counted.asked;
  for (int i = 0; i < 3; ++i) counted.attention.forward(some_inputs(130));
  CHECK(*counted.asked == before);
}

TEST_CASE("block_gather: calls of other lengths in between give what each gives by itself") {
  const PatternAttention attention(band_pattern(20, 0));
  for (const int64_t positions : {130, 65, 130, 1, 131, 130}) {
    CAPTURE(positions);
    const auto in = some_inputs(positions);
    CHECK(at::allclose(attention.forward(in), by_mask(in), 1e-4, 1e-5));  // float32 sums of 21 terms
  }
}

TEST_CASE("block_gather: several threads may call at once") {
  const PatternAttention attention(band_pattern(20, 0));
  const std::vector<Inputs> inputs = {some_inputs(70), some_inputs(130), some_inputs(200)};
  std::vector<Tensor> expected;
  for (const auto& in : inputs) expected.push_back(attention.forward(in));
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 30; ++i) {
        const auto which = static_cast<size_t>((i + t) % 3);
        if (!at::equal(attention.forward(inputs[which]), expected[which])) ++wrong;
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}

// The attention kernel against the definition in float64 by LibTorch's plain operators, outputs and gradients, in sizes
// that fill no tile. Tolerances as in kernels_test.cpp.

#include "tensor/kernels/attention_kernel.h"

#include <array>
#include <cmath>

#include <ATen/ATen.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "tensor/kernel_checks.h"
#include "tensor/kernels/kernels.h"
#include "tensor/memory_counter.h"

using namespace attnscale;
using namespace attnscale::kernel_checks;

namespace {

/// The definition: softmax over the band, zeros for queries that see nothing.
Tensor plain_attention(const Tensor& query, const Tensor& key, const Tensor& value, const Band& band) {
  const int64_t shared = query.size(1) / key.size(1), queries = query.size(2), keys = key.size(2);
  const auto k = key.repeat_interleave(shared, 1), v = value.repeat_interleave(shared, 1);
  const auto distance = at::arange(keys).unsqueeze(0) - at::arange(keys - queries, keys).unsqueeze(1);  // [T, S]
  const auto seen = distance.ge(-band.behind).logical_and(distance.le(band.ahead));
  const auto logits = at::matmul(query, k.mT()) / std::sqrt(static_cast<double>(query.size(3)));
  const auto weights = at::softmax(logits.masked_fill(seen.logical_not(), -1e300), -1) * seen;
  return at::matmul(weights, v);
}

struct AttentionShape {
  int64_t queries, keys, heads, groups, width, value_width;
};

void check_attention(const AttentionShape& shape, const Band& band, at::ScalarType dtype) {
  const auto [T, S, H, G, D, E] = shape;
  CAPTURE(dtype, T, S, H, G, D, E, band.behind, band.ahead);
  // As projections leave them: positions outside the heads.
  const auto heads = [](int64_t positions, int64_t count, int64_t width) {
    return trained({2, positions, count, width});
  };
  const auto query = heads(T, H, D), key = heads(S, G, D), value = heads(S, G, E);
  const auto query2 = twin_of(query), key2 = twin_of(key), value2 = twin_of(value);
  const auto output = attention_kernel(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), band,
                                       static_cast<double>(T * S), dtype);
  CHECK(output.scalar_type() == dtype);
  check_same(output, plain_attention(query2.transpose(1, 2), key2.transpose(1, 2), value2.transpose(1, 2), band),
             {{query, query2}, {key, key2}, {value, value2}}, dtype,
             band.behind + band.ahead == 0 ? 1 : smallest);  // one key has all the weight, whatever its logit
}

void check_attention(const std::vector<AttentionShape>& shapes, const std::vector<Band>& bands, at::ScalarType dtype) {
  for (const auto& shape : shapes)
    for (const auto& band : bands) check_attention(shape, band, dtype);
}

}  // namespace

TEST_CASE("kernels: attention and its gradients equal the definition") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  NEEDS_KERNELS(dtype);
  at::manual_seed(3);
  check_attention({{8, 8, 1, 1, 2, 2},
                   {63, 63, 2, 1, 8, 6},
                   {64, 64, 2, 2, 32, 32},
                   {129, 129, 4, 2, 16, 70},
                   {70, 200, 2, 1, 6, 4},
                   {200, 70, 1, 1, 4, 8}},
                  {Band{}, Band{.ahead = 0}, Band{.behind = 0, .ahead = 0}, Band{.behind = 40, .ahead = 0},
                   Band{.behind = 65, .ahead = 3}, Band{.behind = 2, .ahead = Band::all}},
                  dtype);
}

TEST_CASE("kernels: attention and its gradients equal the definition where one span of tiles does not hold all") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  NEEDS_KERNELS(dtype);
  at::manual_seed(4);
  check_attention({{257, 257, 1, 1, 16, 70},
                   {300, 300, 2, 1, 130, 66},
                   {321, 577, 1, 1, 16, 8},
                   {577, 321, 2, 2, 8, 16},
                   {70, 600, 2, 1, 6, 4},
                   {70, 90, 1, 1, 300, 10},
                   {1100, 1100, 2, 1, 8, 6}},  // of more queries than a pass works on at once
                  {Band{}, Band{.ahead = 0}, Band{.behind = 65, .ahead = 3}, Band{.behind = 300, .ahead = 0},
                   Band{.behind = 2, .ahead = Band::all}},
                  dtype);
  if (dtype == at::kFloat) check_attention({300, 300, 1, 1, 7, 5}, Band{.ahead = 0}, dtype);  // odd widths
}

TEST_CASE("kernels: attention under any layout of pairs, and its gradients, equal the definition") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  NEEDS_KERNELS(dtype);
  at::manual_seed(5);
  for (const int64_t T : {8, 64, 130, 257, 577})  // the last: of more queries than a pass works on at once
    for (const double share : {0.02, 0.5, 1.0}) {
      CAPTURE(dtype, T, share);
      // Whole blocks of 32 seen or not, and of those some pairs; the second query sees nothing.
      const int64_t blocks = (T + 31) / 32;
      auto mask = (at::rand({blocks, blocks}) < 0.6).repeat_interleave(32, 0).repeat_interleave(32, 1);
      mask = mask.narrow(0, 0, T).narrow(1, 0, T).logical_and(at::rand({T, T}) < share).contiguous();
      mask[1].fill_(false);
      auto layout = std::make_shared<TileLayout>();
      const auto* seen = mask.const_data_ptr<bool>();
      for (int64_t first = 0; first < T; first += 64) {
        std::vector<int64_t> tiles;
        std::vector<uint64_t> bits(static_cast<size_t>((T + 63) / 64 * 64), 0);
        for (int64_t j = 0; j * 64 < T; ++j) {
          tiles.push_back(j);
          for (int64_t t = first; t < std::min(first + 64, T); ++t)
            for (int64_t s = j * 64; s < std::min(j * 64 + 64, T); ++s)
              bits[static_cast<size_t>(j * 64 + t - first)] |= static_cast<uint64_t>(seen[t * T + s]) << (s - j * 64);
        }
        layout->append(tiles, bits);
      }
      const auto query = trained({2, 4, T, 6}), key = trained({2, 2, T, 6}), value = trained({2, 2, T, 10});
      const auto query2 = twin_of(query), key2 = twin_of(key), value2 = twin_of(value);
      const auto logits = at::matmul(query2, key2.repeat_interleave(2, 1).mT()) / std::sqrt(6.0);
      const auto weights = at::softmax(logits.masked_fill(mask.logical_not(), -1e300), -1) * mask;
      check_same(attention_kernel(query, key, value, layout, 0, dtype),
                 at::matmul(weights, value2.repeat_interleave(2, 1)), {{query, query2}, {key, key2}, {value, value2}},
                 dtype);
    }
}

TEST_CASE("kernels: attention to numbers that are not finite is not finite") {
  NEEDS_KERNELS(at::kFloat);
  for (const double bad : {NAN, INFINITY}) {
    auto key = at::randn({1, 1, 100, 4});
    const auto query = at::ones({1, 1, 100, 4});
    key[0][0][70] = bad;
    const auto output = attention_kernel(query, key, at::randn({1, 1, 100, 4}), {.ahead = 0}, 0, at::kFloat);
    CHECK(output.narrow(2, 0, 70).isfinite().all().item<bool>());
    CHECK(output.narrow(2, 70, 30).isnan().all().item<bool>());
  }
}

TEST_CASE("kernels: attention over many keys is right for short and long queries, and blind to keys ahead to the bit") {
  NEEDS_KERNELS(at::kBFloat16);
  at::manual_seed(5);
  constexpr int64_t length = 900, seen = 601;
  const auto heads = [] { return at::randn({1, 2, length, 8}); };
  // Logits of some queries are bounded, those of others far from 0.
  const auto query = (heads() * at::pow(2, at::randint(-2, 9, {1, 2, length, 1}))).set_requires_grad(true);
  const auto key = heads().set_requires_grad(true), value = heads().set_requires_grad(true);
  const auto attend = [&](const Tensor& keys) {
    return attention_kernel(query, keys, value, Band{.ahead = 0}, 0, at::kBFloat16);
  };
  // Logits that far from 0 are what rounding makes of queries and keys.
  const auto rounded = [](const Tensor& x) { return twin_of(x.detach().to(at::kBFloat16)); };
  const auto query2 = rounded(query), key2 = rounded(key), value2 = rounded(value);
  const auto output = attend(key);
  check_same(output, plain_attention(query2, key2, value2, Band{.ahead = 0}),
             {{query, query2}, {key, key2}, {value, value2}}, at::kBFloat16);
  for (const double ahead : {0.0, 1e3, static_cast<double>(NAN)}) {
    const auto other = key.detach().clone();
    other.narrow(2, seen, length - seen).fill_(ahead);
    CHECK(at::equal(attend(other).narrow(2, 0, seen), output.narrow(2, 0, seen)));
  }
  // Keys that a window has left behind are no less unseen.
  const Band window{.behind = 550, .ahead = 0};
  const auto far = key.detach().clone();
  far[0][0][0] = 1e3;
  const auto in_window = [&](const Tensor& keys) {
    return attention_kernel(query, keys, value, window, 0, at::kBFloat16).narrow(2, 551, length - 551);
  };
  CHECK(at::equal(in_window(far), in_window(key)));
}

TEST_CASE("kernels: attention keeps memory that grows with the length, not its square") {
  NEEDS_KERNELS(at::kFloat);
  const auto x = trained({1, 1, 4096, 8});
  REQUIRE(attention_dtype(x, x, x) == at::kFloat);
  const MemoryCounter memory;
  attention_kernel(x, x, x, {.ahead = 0}, 0, at::kFloat).sum().backward();
  CHECK(memory.peak() < 4096 * 4096);  // a byte for each pair would be too much
}

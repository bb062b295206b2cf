#include "tensor/kernels/softmax_tile.h"

#include <array>
#include <cmath>

#include <torch/torch.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "tensor/kernel_checks.h"
#include "tensor/kernels/kernels.h"

using namespace attnscale;
using torch::Tensor;

namespace {

constexpr int64_t stride = 96;

/// Rows of which each counts a stretch: none, all, one number, and stretches that begin and end within vectors.
struct SomeRows {
  int64_t columns = 80;
  std::array<int64_t, 7> low = {0, 0, 17, 5, 16, 30, 63}, high = {80, 1, 18, 61, 64, 30, 80};
  const uint64_t* kept = nullptr;
  TileRows rows() const { return {static_cast<int64_t>(low.size()), stride, columns, low.data(), high.data(), kept}; }
  /// [rows, columns], true where a number counts
  Tensor seen() const {
    Tensor result = at::zeros({rows().rows, columns}, at::kBool);
    for (size_t r = 0; r < low.size(); ++r)
      for (int64_t c = low[r]; c < high[r]; ++c)
        if (!kept || (kept[r] >> c & 1) != 0) result[static_cast<int64_t>(r)][c] = true;
    return result;
  }
};

Tensor random_rows() { return at::randn({7, stride}) * 3; }

/// Rounded as `narrow` was.
Tensor as_floats(std::vector<Bits16>& narrow) {
  return at::from_blob(narrow.data(), {7, stride}, at::kBFloat16).to(at::kFloat);
}

double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

void check_softmax(const SomeRows& tile) {
  constexpr double factor = 0.37;
  const auto seen = tile.seen();
  const Tensor logits = random_rows();
  const Tensor exact = (logits.narrow(1, 0, tile.columns).to(at::kDouble) * factor).masked_fill(~seen, -INFINITY);
  // A softmax that goes on: some rows met a higher logit before, some nothing.
  std::array<float, 7> highest = {-INFINITY, 9, -INFINITY, 0.5F, -2, -1, 20}, total = {0, 3, 0, 2, 1, 4, 1}, shrink{};
  const auto before = highest, sums = total;
  std::vector<Bits16> narrow(7 * stride, 7);
  auto highest_again = highest, total_again = total;
  vector_functions()->softmax_tile(tile.rows(), logits.clone().mutable_data_ptr<float>(), narrow.data(), factor,
                                   highest_again.data(), total_again.data(), shrink.data());
  vector_functions()->softmax_tile(tile.rows(), logits.mutable_data_ptr<float>(), nullptr, factor, highest.data(),
                                   total.data(), shrink.data());
  CHECK(highest_again == highest);
  for (size_t r = 0; r < 7; ++r) CHECK(std::abs(total_again[r] - total[r]) <= 3e-6F * total[r]);
  for (int64_t r = 0; r < 7; ++r) {
    CAPTURE(r);
    const auto i = static_cast<size_t>(r);
    const double own = exact[r].max().item<double>(), top = std::max<double>(own, before[i]);
    const auto weights = std::isinf(top) ? at::zeros({tile.columns}, at::kDouble) : (exact[r] - top).exp();
    CHECK(distance(logits[r].narrow(0, 0, tile.columns), weights) < 3e-6);
    const bool met = std::isfinite(before[i]);
    const double expected_shrink = std::isinf(own) ? 1 : met ? std::exp(before[i] - top) : 0;
    CHECK(std::abs(shrink[i] - expected_shrink) < 1e-6);
    CHECK(std::abs(total[i] - (sums[i] * expected_shrink + weights.sum().item<double>())) < 2e-5);
    if (!std::isinf(own)) CHECK(std::abs(highest[i] - top) < 1e-5);
    else CHECK(highest[i] == before[i]);
  }
  CHECK(at::equal(logits.narrow(1, 0, tile.columns).masked_select(~seen), at::zeros({(~seen).sum().item<int64_t>()})));
  CHECK(distance(as_floats(narrow).narrow(1, 0, tile.columns), logits.narrow(1, 0, tile.columns)) < 4e-3);
}

void check_slopes(const SomeRows& tile) {
  constexpr double factor = 0.37;
  const auto seen = tile.seen();
  const Tensor logits = random_rows(), gradients = random_rows(), log_totals = at::randn({tile.columns}) + 8,
               means = at::randn({tile.columns});
  const auto inside = [&](const Tensor& x) { return x.narrow(1, 0, tile.columns).to(at::kDouble); };
  const Tensor weights = (inside(logits) * factor - log_totals).exp().masked_fill(~seen, 0);
  const Tensor slopes = weights * (inside(gradients) - means) * factor;
  std::vector<Bits16> narrow(7 * stride, 7), narrow_slopes(7 * stride, 7);
  SoftmaxGradient of{log_totals.const_data_ptr<float>(),
                     means.const_data_ptr<float>(),
                     tile.columns,
                     factor,
                     narrow.data(),
                     narrow_slopes.data()};
  vector_functions()->slopes_tile(tile.rows(), of, logits.mutable_data_ptr<float>(),
                                  gradients.mutable_data_ptr<float>());
  of.narrow_weights = of.narrow_slopes = nullptr;
  vector_functions()->slopes_tile(tile.rows(), of, logits.mutable_data_ptr<float>(),
                                  gradients.mutable_data_ptr<float>());
  const double largest = slopes.abs().max().item<double>();
  CHECK(distance(inside(logits), weights) < 3e-6 * weights.max().item<double>());
  CHECK(distance(inside(gradients), slopes) < 3e-6 * largest);
  CHECK(distance(inside(as_floats(narrow)), weights) < 4e-3 * weights.max().item<double>());
  CHECK(distance(inside(as_floats(narrow_slopes)), slopes) < 4e-3 * largest);
}

}  // namespace

TEST_CASE("softmax tile: rows join softmaxes that go on, and what does not count is zero") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(3);
  check_softmax({});
}

TEST_CASE("softmax tile: what bounds a row stays its highest logit") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(6);
  const SomeRows tile;
  auto rows = tile.rows();
  rows.bounded = 0b101;
  const Tensor logits = random_rows(), given = logits.clone();
  std::array<float, 7> highest{}, total{}, shrink{};
  std::vector<Bits16> narrow(7 * stride, 7);
  vector_functions()->softmax_tile(rows, logits.mutable_data_ptr<float>(),
                                   GENERATE(false, true) ? narrow.data() : nullptr, 1, highest.data(), total.data(),
                                   shrink.data());
  const auto seen = tile.seen();
  for (int64_t r = 0; r < 7; ++r) {
    const bool bounded = r == 0 || r == 2;
    const auto i = static_cast<size_t>(r);
    const auto own = given[r].narrow(0, 0, tile.columns).to(at::kDouble).masked_select(seen[r]);
    const double top = own.numel() > 0 ? std::max(own.max().item<double>(), 0.0) : 0;
    CHECK(highest[i] == static_cast<float>(bounded ? 0 : top));
    CHECK(std::abs(total[i] / (own - highest[i]).exp().sum().clamp_min(1e-30).item<double>() - 1) <
          1e-5 + (own.numel() == 0));
  }
}

TEST_CASE("softmax tile: of at most 64 numbers those count whose bits are set") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(4);
  const std::array<uint64_t, 7> kept = {~uint64_t{0}, 1, 0x8000'0000'0000'0000, 0, 0xf0f0, 0x1'0001, 0xffff'0000};
  SomeRows tile{.columns = 64, .low = {}, .high = {64, 64, 64, 0, 64, 64, 64}, .kept = kept.data()};
  check_softmax(tile);
  check_slopes(tile);
}

TEST_CASE("softmax tile: weights again, and the slopes of logits") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(5);
  check_slopes({});
}

TEST_CASE("softmax tile: a logit that is no number, or infinite, makes its row so, and no other") {
  NEEDS_KERNELS(at::kFloat);
  const bool rounded = GENERATE(false, true);
  for (const float odd : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const SomeRows tile;
    Tensor logits = random_rows();
    logits[3][60] = odd;  // the last that counts
    logits[4][64] = odd;  // the first that does not
    std::array<float, 7> highest{}, total{}, shrink{};
    highest.fill(-INFINITY);
    std::vector<Bits16> narrow(7 * stride, 7);
    vector_functions()->softmax_tile(tile.rows(), logits.mutable_data_ptr<float>(), rounded ? narrow.data() : nullptr,
                                     1, highest.data(), total.data(), shrink.data());
    if (rounded) logits = as_floats(narrow);
    CHECK(logits[3].narrow(0, 0, 80).isnan().any().item<bool>());
    CHECK(std::isnan(total[3]));
    for (const int64_t r : {0, 1, 2, 4, 5, 6}) CHECK(logits[r].narrow(0, 0, 80).isfinite().all().item<bool>());
  }
}

TEST_CASE("softmax tile: weights of a total that is no number are none, of an infinite one zero") {
  NEEDS_KERNELS(at::kFloat);
  const int64_t low = 0, high = 3;
  const auto row = at::ones({16}), slope = at::ones({16}), mean = at::zeros({3}),
             total = at::tensor({NAN, INFINITY, 1.F});
  const SoftmaxGradient of{total.const_data_ptr<float>(), mean.const_data_ptr<float>(), 3, 1, nullptr, nullptr};
  vector_functions()->slopes_tile({1, 16, 3, &low, &high}, of, row.mutable_data_ptr<float>(),
                                  slope.mutable_data_ptr<float>());
  CHECK(row[0].isnan().item<bool>());
  CHECK(at::equal(row.narrow(0, 1, 2), at::tensor({0.F, 1.F})));
  CHECK(at::equal(slope.narrow(0, 1, 2), at::tensor({0.F, 1.F})));
}

TEST_CASE("softmax tile: sums are divided by their totals, and nothing by none") {
  NEEDS_KERNELS(at::kFloat);
  const Tensor sums = at::randn({3, 37}), before = sums.clone();
  const std::array<float, 3> total = {2, 0, 0.3F};
  std::vector<Bits16> narrow(7 * stride, 7);
  vector_functions()->softmax_end(sums.mutable_data_ptr<float>(), narrow.data(), stride, total.data(), 3, 37);
  CHECK(distance(as_floats(narrow).narrow(0, 0, 3).narrow(1, 0, 37)[2], before[2] / 0.3) < 0.06);
  CHECK(narrow[37] == 7);
  vector_functions()->softmax_end(sums.mutable_data_ptr<float>(), nullptr, stride, total.data(), 3, 37);
  CHECK(distance(sums[0], before[0] / 2) < 1e-6);
  CHECK(at::equal(sums[1], at::zeros({37})));
  CHECK(distance(sums[2], before[2] / 0.3) < 1e-5);
  CHECK(distance(as_floats(narrow).narrow(0, 0, 3).narrow(1, 0, 37), sums) < 0.06);
}

TEST_CASE("softmax tile: logarithms of totals, infinite where nothing was seen, and no number where one is none") {
  NEEDS_KERNELS(at::kFloat);
  const Tensor highest = at::randn({37}), total = at::rand({37}) * 1e4 + 1e-3, out = at::full({38}, 7.F);
  total[5] = 0;
  total[36] = NAN;
  highest[7] = -INFINITY;
  total[7] = 0;
  vector_functions()->log_totals(highest.const_data_ptr<float>(), total.const_data_ptr<float>(),
                                 out.mutable_data_ptr<float>(), 37);
  const auto expected = (highest.to(at::kDouble) + total.to(at::kDouble).log()).to(at::kFloat);
  for (int64_t i = 0; i < 36; ++i)
    if (i != 5 && i != 7) CHECK(std::abs(out[i].item<double>() - expected[i].item<double>()) < 2e-6);
  CHECK(out[5].item<float>() == INFINITY);
  CHECK(out[7].item<float>() == INFINITY);
  CHECK(out[36].isnan().item<bool>());
  CHECK(out[37].item<float>() == 7);
}

TEST_CASE("softmax tile: products of rows with rows, of a length that fills no vector") {
  NEEDS_KERNELS(at::kFloat);
  const Tensor a = at::randn({5, 40}), b = at::randn({5, 50}), out = at::empty({5}), narrow_out = at::empty({5});
  vector_functions()->row_dots(a.const_data_ptr<float>(), 40, b.const_data_ptr<float>(), 50, 5, 21,
                               out.mutable_data_ptr<float>());
  const auto exact = [](const Tensor& x, const Tensor& y) {
    return (x.narrow(1, 0, 21).to(at::kDouble) * y.narrow(1, 0, 21).to(at::kDouble)).sum(1);
  };
  CHECK(distance(out, exact(a, b)) < 1e-5);
  const auto short_a = a.to(at::kBFloat16), short_b = b.to(at::kBFloat16);
  const auto bits_of = [](const Tensor& x) { return static_cast<const Bits16*>(x.const_data_ptr()); };
  vector_functions()->row_dots16(bits_of(short_a), 40, bits_of(short_b), 50, 5, 21,
                                 narrow_out.mutable_data_ptr<float>());
  CHECK(distance(narrow_out, exact(short_a, short_b)) < 1e-5);
}

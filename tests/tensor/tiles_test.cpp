// The products of tiles, and what lays their factors out.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <catch2/catch_test_macros.hpp>

#include "tensor/kernel_checks.h"
#include "tensor/kernels/amx_product.h"
#include "tensor/kernels/feed_forward_kernel.h"
#include "tensor/kernels/linear_kernel.h"
#include "tensor/kernels/tiles.h"

using namespace attnscale;
using namespace attnscale::kernel_checks;

namespace {

/// A right factor's panels: [panels][inner / 2][64][2].
Tensor panels_of(const Tensor& matrix) {
  const int64_t inner = matrix.size(0), columns = matrix.size(1);
  auto panels = at::empty({panel_size<at::BFloat16>(inner, columns)}, at::kBFloat16);
  panels_from_rows(matrix.const_data_ptr<at::BFloat16>(), columns, inner, columns,
                   panels.mutable_data_ptr<at::BFloat16>());
  return panels;
}

struct Threads {
  explicit Threads(int count) : before(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before); }
  int before;
};

}  // namespace

TEST_CASE("tiles: products of all sizes equal the definition, one size after another, and leave the rest alone") {
  NEEDS_KERNELS(at::kBFloat16);
  const TileUse use;
  at::manual_seed(3);
  // Sizes that fill AMX's tiles, by one and by two of them, tiles of fewer numbers, and sizes that do not, so that both
  // ways and several sizes of tiles take turns.
  for (const int64_t inner : {32, 20, 64, 2, 40, 96, 8, 416})
    for (const int64_t rows : {16, 48, 7, 64, 32})
      for (const int64_t columns : {16, 64, 8, 48, 5, 24, 32})
        for (const bool add : {false, true}) {
          CAPTURE(inner, rows, columns, add);
          const auto a = at::randn({rows, inner + 3}).to(at::kBFloat16),
                     b = at::randn({inner, columns}).to(at::kBFloat16);
          const auto panels = panels_of(b), before = at::randn({rows, columns + 2});
          auto out = before.clone();
          tile_product(a.const_data_ptr<at::BFloat16>(), inner + 3, panels.const_data_ptr<at::BFloat16>(),
                       out.mutable_data_ptr<float>(), columns + 2, rows, inner, columns, add);
          auto expected = at::mm(a.narrow(1, 0, inner).to(at::kDouble), b.to(at::kDouble));
          if (add) expected = expected + before.narrow(1, 0, columns);
          CHECK(difference(out.narrow(1, 0, columns), expected) < 1e-5);
          CHECK(at::equal(out.narrow(1, columns, 2), before.narrow(1, columns, 2)));
        }
}

TEST_CASE("tiles: products by AMX have the bits of LibTorch's") {
  NEEDS_KERNELS(at::kBFloat16);
  if (!multiplies_by_amx()) SKIP("this processor has no AMX");
  const TileUse use;
  for (const auto& [inner, columns] : {std::pair(32, 64), std::pair(256, 64), std::pair(2048, 64), std::pair(8, 64),
                                       std::pair(64, 8), std::pair(64, 64), std::pair(64, 32), std::pair(64, 48)})
    for (const bool add : {false, true}) {
      CAPTURE(inner, columns, add);
      REQUIRE(amx_fits(64, inner, columns));
      const auto a = at::randn({64, inner}).to(at::kBFloat16),
                 panels = panels_of(at::randn({inner, columns}).to(at::kBFloat16));
      const auto before = at::randn({64, columns});
      auto ours = before.clone(), theirs = before.clone();
      const auto *left = a.const_data_ptr<at::BFloat16>(), *right = panels.const_data_ptr<at::BFloat16>();
      amx_product(left, inner, right, ours.mutable_data_ptr<float>(), columns, 64, inner, columns, add);
      release_amx();
      at::native::cpublas::brgemm(64, columns, inner, inner, 64, columns, add, left, right,
                                  theirs.mutable_data_ptr<float>(), /*is_vnni=*/true);
      CHECK(at::equal(ours, theirs));
    }
}

TEST_CASE("tiles: float32 products and LibTorch's may stand between those by AMX") {
  NEEDS_KERNELS(at::kBFloat16);
  const TileUse use;
  at::manual_seed(7);
  const auto a = at::randn({64, 64}).to(at::kBFloat16), b = at::randn({64, 64}).to(at::kBFloat16);
  const auto panels = panels_of(b), wide_a = a.to(at::kFloat), wide_b = b.to(at::kFloat);
  const auto expected = at::mm(a.to(at::kDouble), b.to(at::kDouble));
  // Rows of 7 do not fill a tile of AMX's: that product is LibTorch's, of the same size each time.
  for (int turn = 0; turn < 3; ++turn)
    for (const int64_t rows : {64, 7, -64, 64, -64}) {
      CAPTURE(turn, rows);
      const int64_t count = std::abs(rows);
      auto out = at::zeros({count, 64});
      if (rows > 0)
        tile_product(a.const_data_ptr<at::BFloat16>(), 64, panels.const_data_ptr<at::BFloat16>(),
                     out.mutable_data_ptr<float>(), 64, count, 64, 64, false);
      else
        tile_product(wide_a.const_data_ptr<float>(), 64, wide_b.const_data_ptr<float>(), out.mutable_data_ptr<float>(),
                     64, count, 64, 64, false);
      CHECK(difference(out, expected.narrow(0, 0, count)) < 1e-5);
    }
}

TEST_CASE("tiles: LibTorch's attention and products in bfloat16 may stand between ours") {
  NEEDS_KERNELS(at::kBFloat16);
  at::manual_seed(9);
  const auto heads = at::randn({2, 2, 200, 64}).to(at::kBFloat16), x = at::randn({70, 96}).to(at::kBFloat16),
             weight = at::randn({80, 96});
  const auto theirs = [&] { return at::scaled_dot_product_attention(heads, heads, heads, {}, 0, true); };
  const auto product = [&] { return at::mm(x, x.t()); };
  const auto ours = [&] { return linear_kernel(x, weight, {}, at::kBFloat16); };
  const auto attention = theirs(), square = product(), rows = ours();
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(at::equal(ours(), rows));
    CHECK(at::equal(theirs(), attention));
    CHECK(at::equal(ours(), rows));
    CHECK(at::equal(product(), square));
  }
}

TEST_CASE("tiles: rows are rounded and widened as LibTorch does, and nothing beside them") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(4);
  constexpr int64_t rows = 5, in_stride = 83, out_stride = 71;
  const auto x = at::randn({rows, in_stride}) * 1e3;
  for (const int64_t columns : {1, 31, 32, 64, 67}) {
    CAPTURE(columns);
    auto out = at::full({rows, out_stride}, 7, at::kBFloat16);
    vector_functions()->round_rows(x.const_data_ptr<float>(), in_stride, bits(out.mutable_data_ptr<at::BFloat16>()),
                                   out_stride, rows, columns);
    auto expected = at::full({rows, out_stride}, 7, at::kBFloat16);
    expected.narrow(1, 0, columns).copy_(x.narrow(1, 0, columns));
    CHECK(at::equal(out, expected));
    auto wide = at::full({rows, in_stride}, 7, at::kFloat);
    vector_functions()->widen_rows(bits(out.const_data_ptr<at::BFloat16>()), out_stride, wide.mutable_data_ptr<float>(),
                                   in_stride, rows, columns);
    CHECK(at::equal(wide.narrow(1, 0, columns), expected.narrow(1, 0, columns).to(at::kFloat)));
    CHECK(wide.narrow(1, columns, in_stride - columns).abs().max().item<float>() == 0);
  }
}

TEST_CASE("tiles: panels hold rows in pairs, from float32 and bfloat16, zeros around them and nothing beyond") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(5);
  constexpr int64_t stride = 69;
  for (const int64_t rows : {1, 2, 7})
    for (const int64_t columns : {1, 37, 64}) {
      CAPTURE(rows, columns);
      const auto wide = at::randn({rows, stride}), narrow = wide.to(at::kBFloat16);
      const int64_t pairs = (rows + 1) / 2;
      auto even_rows = at::zeros({2 * pairs, panel_columns}, at::kBFloat16);
      even_rows.narrow(0, 0, rows).narrow(1, 0, columns).copy_(narrow.narrow(1, 0, columns));
      const auto expected = even_rows.view({pairs, 2, panel_columns}).transpose(1, 2);
      const auto panel_by = [&](const auto& make) {
        auto out = at::full({pairs * panel_columns * 2 + 1}, 7, at::kBFloat16);
        make(bits(out.mutable_data_ptr<at::BFloat16>()));
        CHECK(out[-1].item<float>() == 7);
        return out.narrow(0, 0, pairs * panel_columns * 2).view({pairs, panel_columns, 2}).clone();
      };
      CHECK(at::equal(panel_by([&](Bits16* out) {
                        vector_functions()->round_pair_panel(wide.const_data_ptr<float>(), stride, rows, columns, out);
                      }),
                      expected));
      CHECK(at::equal(panel_by([&](Bits16* out) {
                        vector_functions()->pair_panel(bits(narrow.const_data_ptr<at::BFloat16>()), stride, rows,
                                                       columns, out);
                      }),
                      expected));
    }
}

TEST_CASE("tiles: products of several strips have the same bits by any number of threads") {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    NEEDS_KERNELS(at::kFloat);
    if (!has_kernels(dtype)) continue;
    for (const int64_t rows : {600, 640}) {
      const auto results = [&](int threads, int threads_backward) {
        const Threads these(threads);
        at::manual_seed(6);
        const auto x = trained({rows, 96}), up = trained({2 * 320, 96}), up_bias = trained({2 * 320}),
                   down = trained({96, 320}), down_bias = trained({96}), weight = trained({96, 96}),
                   bias = trained({96});
        const auto output = linear_kernel(
            feed_forward_kernel(x, up, up_bias, down, down_bias, Activation::gelu, true, dtype), weight, bias, dtype);
        const Threads then(threads_backward);
        output.backward(at::randn(output.sizes()).to(output.scalar_type()));
        return std::vector<Tensor>{output,      x.grad(),         up.grad(),     up_bias.grad(),
                                   down.grad(), down_bias.grad(), weight.grad(), bias.grad()};
      };
      const auto one = results(1, 1);
      for (const auto& [threads, backward] : {std::pair(2, 2), std::pair(5, 5), std::pair(16, 1), std::pair(1, 16)}) {
        const auto many = results(threads, backward);
        for (size_t i = 0; i < one.size(); ++i) {
          CAPTURE(dtype, rows, threads, backward, i);
          CHECK(at::equal(one[i], many[i]));
        }
      }
    }
  }
}

// What kernels refuse, and rows that do not lie as they usually do.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "tensor/kernel_checks.h"
#include "tensor/kernels/adam_kernel.h"
#include "tensor/kernels/attention_kernel.h"
#include "tensor/kernels/cross_entropy_kernel.h"
#include "tensor/kernels/decode_kernel.h"
#include "tensor/kernels/embedding_kernel.h"
#include "tensor/kernels/feed_forward_kernel.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/linear_kernel.h"
#include "tensor/kernels/norm_kernel.h"
#include "tensor/kernels/recurrence_kernel.h"

using namespace attnscale;
using namespace attnscale::kernel_checks;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("kernels: a derivative of a derivative is refused, not taken of constants") {
  NEEDS_KERNELS(at::kFloat);
  const auto refused = [](const Tensor& output, const Tensor& input, const char* kernel) {
    CHECK_THROWS_WITH(torch::autograd::grad({output.square().sum()}, {input}, {}, /*retain_graph=*/true,
                                            /*create_graph=*/true),
                      ContainsSubstring(kernel) && ContainsSubstring("create_graph"));
    CHECK(torch::autograd::grad({output.square().sum()}, {input})[0].defined());  // the first is given
  };
  const auto x = trained({9, 6}), up = trained({8, 6}), down = trained({6, 8});
  refused(linear_kernel(x, up, {}, at::kFloat), x, "linear_kernel");
  refused(feed_forward_kernel(x, up, {}, down, {}, Activation::gelu, false, at::kFloat), x, "feed_forward_kernel");
  refused(norm_kernel(x, trained({9, 6}), trained({6}), {}, {.centred = false}, at::kFloat).norm, x, "norm_kernel");
  refused(cross_entropy_kernel(x, at::zeros({9}, at::kLong), {}, {}).minimised, x, "cross_entropy_kernel");
  refused(embedding_kernel(x, {}, at::zeros({1, 4}, at::kLong), 0), x, "embedding_kernel");
  const auto q = trained({1, 1, 9, 6});
  refused(attention_kernel(q, q, q, {.ahead = 0}, 0, at::kFloat), q, "attention_kernel");
  refused(recurrence_kernel(q, q, q, {}, {}, {}), q, "recurrence_kernel");
}

TEST_CASE("kernels: attention takes rows that share memory as it takes their copies") {
  NEEDS_KERNELS(at::kFloat);
  at::manual_seed(8);
  const auto one = at::randn({2, 3, 1, 8});
  const auto shared = one.expand({2, 3, 70, 8});                   // all positions in one place
  const auto overlapping = at::randn({2, 3, 77}).unfold(2, 8, 1);  // each begins one number further
  const auto plain = at::randn({2, 3, 70, 8});
  for (const auto& rows : {shared, overlapping})
    for (const int place : {0, 1, 2}) {
      CAPTURE(rows.strides(), place);
      const auto results = [&](const Tensor& given) {
        std::vector<Tensor> in = {plain, plain, plain};
        in[static_cast<size_t>(place)] = given;
        for (auto& x : in) x = x.detach().set_requires_grad(true);
        const auto output = attention_kernel(in[0], in[1], in[2], {.ahead = 0}, 0, at::kFloat);
        auto all = torch::autograd::grad({output.square().sum()}, {in[0], in[1], in[2]});
        all.push_back(output);
        return all;
      };
      const auto ours = results(rows), copied = results(rows.contiguous());
      for (size_t i = 0; i < ours.size(); ++i) CHECK(at::equal(ours[i], copied[i]));
    }
}

TEST_CASE("kernels: shapes that would be read past their end are refused with what is expected") {
  NEEDS_KERNELS(at::kFloat);
  const auto of = [](at::IntArrayRef sizes) { return at::ones(sizes); };
  const auto x = of({9, 6}), up = of({8, 6}), down = of({6, 8});
  const auto refused = [](const auto& call, const char* place, const char* expected) {
    CHECK_THROWS_WITH(call(), ContainsSubstring(place) && ContainsSubstring("expected") && ContainsSubstring(expected));
  };

  const auto linear = [&](const Tensor& rows, const Tensor& weight, const Tensor& bias) {
    return [=] { linear_kernel(rows, weight, bias, at::kFloat); };
  };
  linear(x, up, of({8}))();
  refused(linear(of({9, 5}), up, {}), "linear_kernel: x [9, 5] and weight [8, 6]", "[.., K] and [N, K]");
  refused(linear(x, of({8, 1, 6}), {}), "linear_kernel", "[N, K]");
  refused(linear(x, up, of({7})), "linear_kernel: bias [7]", "[8]");

  const auto feed = [&](const Tensor& rows, const Tensor& in, const Tensor& b, const Tensor& out, const Tensor& c,
                        bool gated) {
    return [=] { feed_forward_kernel(rows, in, b, out, c, Activation::gelu, gated, at::kFloat); };
  };
  feed(x, up, of({8}), down, of({6}), false)();
  feed(x, of({16, 6}), of({16}), down, {}, true)();
  refused(feed(of({9, 5}), up, {}, down, {}, false), "feed_forward_kernel: x [9, 5]", "[.., K], [F, K] and [N, F]");
  refused(feed(x, up, {}, down, {}, true), "up [8, 6] and down [6, 8]", "[2 F, K]");
  refused(feed(x, up, {}, of({6, 9}), {}, false), "down [6, 9]", "[N, F]");
  refused(feed(x, up, of({7}), down, {}, false), "up_bias [7]", "[8]");
  refused(feed(x, up, {}, down, of({5}), false), "down_bias [5]", "[6]");

  const auto norm = [&](const Tensor& added, const Tensor& weight, const Tensor& bias) {
    return [=] { norm_kernel(x, added, weight, bias, {}, at::kFloat); };
  };
  norm(x, of({6}), of({6}))();
  refused(norm({}, of({5}), {}), "norm_kernel: weight [5]", "[6]");
  refused(norm({}, of({6}), of({5})), "norm_kernel: bias [5]", "[6]");
  refused(norm(of({8, 6}), of({6}), {}), "norm_kernel: added [8, 6]", "[9, 6]");

  const auto targets = [](int64_t count) { return at::zeros({count}, at::kLong); };
  refused([&] { cross_entropy_kernel(x, targets(8), {}, {}); }, "logits [9, 6] and targets [8]", "[.., V] and [..]");
  refused([&] { cross_entropy_kernel(x.unsqueeze(0), targets(9), {}, {}); }, "cross_entropy_kernel", "[.., V]");

  const auto heads = of({1, 1, 4, 8});
  for (const auto dtype : {at::kHalf, at::kDouble})
    refused([&] { attention_kernel(heads, heads, heads, {.ahead = 0}, 0, dtype); }, "attention_kernel", "bfloat16");

  refused([&] { norm_of_all({of({4, 6}).t()}); }, "norm_of_all: [6, 4]", "contiguous");
  const auto p = of({6});
  for (int place = 1; place < 4; ++place) {
    std::vector<Tensor> all(4, p);
    all[static_cast<size_t>(place)] = of({5});
    refused([&] { adamw_kernel({{all[0], all[1], all[2], all[3]}}, {}, 0, 0, 1); }, "adamw_kernel: [5]", "the same");
  }
}

TEST_CASE("kernels: heads, positions, widths and layouts that do not fit each other are refused") {
  NEEDS_KERNELS(at::kFloat);
  const auto of = [](at::IntArrayRef sizes) { return at::ones(sizes); };
  const auto q = of({2, 4, 70, 6}), k = of({2, 2, 70, 6}), v = of({2, 2, 70, 5});
  const auto attend = [](const Tensor& a, const Tensor& b, const Tensor& c) {
    attention_kernel(a, b, c, {.ahead = 0}, 0, at::kFloat);
  };
  const auto sum = [](const Tensor& a, const Tensor& b, const Tensor& c) { recurrence_kernel(a, b, c, {}, {}, {}); };
  const torch::NoGradGuard no_gradients;
  const auto newest = [](const Tensor& a, const Tensor& b, const Tensor& c) {
    newest_attention(a.defined() && a.dim() == 4 ? a.narrow(2, 0, 1) : a, b, c);
  };
  const auto all = [&](const auto& kernel, const char* place) {
    kernel(q, k, v);
    const std::vector<std::array<Tensor, 3>> wrong = {
        {q, of({2, 2, 70, 7}), v},                  // widths
        {q, k, of({2, 2, 69, 5})},                  // values for fewer keys
        {q, of({1, 2, 70, 6}), v},                  // batches
        {q, k, of({1, 2, 70, 5})},                  //
        {q, of({2, 3, 70, 6}), of({2, 3, 70, 5})},  // 3 does not divide 4
        {q, k, of({2, 1, 70, 5})},                  // heads of values
        {q, of({2, 0, 70, 6}), of({2, 0, 70, 5})},  // none
        {q, of({2, 70, 6}), v},                     // dimensions
    };
    for (const auto& [a, b, c] : wrong) {
      CAPTURE(place, a.sizes(), b.sizes(), c.sizes());
      CHECK_THROWS_WITH(kernel(a, b, c), ContainsSubstring(place) && ContainsSubstring(": query [") &&
                                             ContainsSubstring("expected [B, H, T, D]"));
    }
  };
  all(attend, "attention_kernel");
  all(sum, "recurrence_kernel");
  all(newest, "newest_attention");
  CHECK_THROWS_WITH(newest_attention(q, k, v), ContainsSubstring("newest_attention: 70 queries"));
  CHECK_THROWS_WITH(newest_attention(q.narrow(2, 0, 1), k.transpose(2, 3).contiguous().transpose(2, 3), v),
                    ContainsSubstring("expected 1"));
  const auto few = [&](const Tensor& rows, const Tensor& weight, const Tensor& bias) {
    return few_rows_product(rows, weight, bias);
  };
  few(of({1, 6}), of({8, 6}), of({8}));
  CHECK_THROWS_WITH(few(of({1, 5}), of({8, 6}), {}), ContainsSubstring("few_rows_product: x [1, 5] and weight [8, 6]"));
  CHECK_THROWS_WITH(few(of({1, 6}), of({6, 8}).t(), {}), ContainsSubstring("expected [.., K] and contiguous [N, K]"));
  CHECK_THROWS_WITH(few(of({1, 6}), of({8, 6}), of({7})), ContainsSubstring("bias [7], expected [8]"));
  CHECK_THROWS_WITH(attention_kernel(q, k, v, Band{}, 0, at::kBFloat16), ContainsSubstring("expected even ones"));

  // A layout of 70 queries and keys: two tiles, each with the first of keys.
  const auto with = [&](const auto& change) {
    auto layout = std::make_shared<TileLayout>();
    for (int i = 0; i < 2; ++i) layout->append({0}, std::vector<uint64_t>(64, 1));
    change(*layout);
    attention_kernel(q, k, v, std::shared_ptr<const TileLayout>(layout), 0, at::kFloat);
  };
  with([](TileLayout&) {});
  const auto refused = [&](const auto& change, const char* text) {
    CHECK_THROWS_WITH(with(change), ContainsSubstring("attention_kernel: a layout") && ContainsSubstring(text));
  };
  refused([](TileLayout& x) { x.append({1}, std::vector<uint64_t>(64, 1)); }, "3 tiles of queries, expected 2");
  refused([](TileLayout& x) { x.first[1] = 3; }, "as many meetings");
  refused([](TileLayout& x) { x.key_tiles[1] = 2; }, "key tile 2, expected less than 2 for 70 keys");
  refused([](TileLayout& x) { x.by_query.pop_back(); }, "expected 128");
  refused([](TileLayout& x) { x.by_key.pop_back(); }, "expected 128");
  CHECK_THROWS_WITH(attention_kernel(q, k, v, std::shared_ptr<const TileLayout>(), 0, at::kFloat),
                    ContainsSubstring("no layout"));
}

TEST_CASE("kernels: decays, strengths and projections that do not fit the sums are refused") {
  NEEDS_KERNELS(at::kFloat);
  const auto of = [](at::IntArrayRef sizes) { return at::ones(sizes); };
  const auto x = of({2, 2, 70, 6}), rows = of({2, 2, 70}), fewer = of({2, 2, 69});
  const auto sums = [&](const Tensor& decay, const Tensor& beta, const Tensor& projection = {}, int64_t heads = 2) {
    return recurrence_kernel(of({2, heads, 70, 6}), x, x, decay.defined() ? -decay : decay, beta,
                             {.projection = projection});
  };
  sums(rows, rows), sums(x, {}), sums(rows, {}, of({10, 6}));
  CHECK_THROWS_WITH(sums(fewer, {}), ContainsSubstring("log_decay [2, 2, 69]") && ContainsSubstring("[B, G, T]"));
  CHECK_THROWS_WITH(sums(x, rows), ContainsSubstring("log_decay [2, 2, 70, 6]"));
  CHECK_THROWS_WITH(sums(x, {}, of({10, 6})), ContainsSubstring("log_decay [2, 2, 70, 6]"));
  CHECK_THROWS_WITH(sums(of({2, 2, 70, 5}), {}), ContainsSubstring("log_decay [2, 2, 70, 5]"));
  CHECK_THROWS_WITH(sums({}, fewer), ContainsSubstring("beta [2, 2, 69]"));
  CHECK_THROWS_WITH(sums({}, rows, {}, 4), ContainsSubstring("as many heads of queries"));
  CHECK_THROWS_WITH(sums({}, {}, of({10, 5})), ContainsSubstring("projection [10, 5]") && ContainsSubstring("[F, D]"));
  CHECK_THROWS_WITH(recurrence_kernel(x, of({2, 2, 71, 6}), of({2, 2, 71, 6}), {}, {}, {}),
                    ContainsSubstring("expected as many positions"));
}

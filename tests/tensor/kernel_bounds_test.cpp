// What kernels refuse, and rows that do not lie as they usually do.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "tensor/kernel_checks.h"
#include "tensor/kernels/attention_kernel.h"
#include "tensor/kernels/cross_entropy_kernel.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/feed_forward_kernel.h"
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

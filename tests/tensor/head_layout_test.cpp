#include "tensor/head_layout.h"

#include <ATen/ATen.h>
#include <torch/torch.h>
#include <catch2/catch_test_macros.hpp>

#include "tensor/kernel_checks.h"
#include "tensor/kernels/attention_kernel.h"

using namespace attnscale;
using torch::Tensor;
using torch::autograd::grad;

namespace {

constexpr int64_t batch = 2, length = 5, width = 4;
const std::vector<int64_t> counts = {3, 1, 2};  // heads: rows of 24

Tensor projection() { return at::randn({batch, length, 6 * width}, at::kDouble).set_requires_grad(true); }

/// By views that LibTorch knows.
std::vector<Tensor> plain_parts(const Tensor& x) {
  std::vector<Tensor> parts;
  for (const auto& part : x.view({batch, length, 6, width}).split_with_sizes(counts, 2))
    parts.push_back(part.transpose(1, 2));
  return parts;
}

/// Something whose gradient of each part is different.
Tensor mixed(const std::vector<Tensor>& parts) {
  return (parts[0].square().sum() + parts[1].pow(3).sum() + (parts[2] * parts[1]).sum());
}

}  // namespace

TEST_CASE("head layout: parts are views of the projection, and gradients those of plain views") {
  const auto x = projection();
  const auto parts = split_heads(x, counts), expected = plain_parts(x);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(at::equal(parts[i], expected[i]));
    CHECK(parts[i].storage().is_alias_of(x.storage()));
  }
  CHECK(at::equal(grad({mixed(parts)}, {x})[0], grad({mixed(expected)}, {x})[0]));
  // A part that nothing depends on, and none.
  const auto again = split_heads(x, counts);
  const auto of_one = grad({again[1].pow(2).sum()}, {x})[0];
  CHECK(at::equal(of_one, grad({plain_parts(x)[1].pow(2).sum()}, {x})[0]));
  // Rows that are not dense are copied once.
  const auto wide = at::randn({batch, length, 30}, at::kDouble).set_requires_grad(true);
  const auto some = wide.narrow(2, 3, 24);
  CHECK(at::equal(split_heads(some, counts)[2], plain_parts(some.contiguous())[2]));
}

TEST_CASE("head layout: gradients side by side come back without a copy, others joined") {
  const auto x = projection();
  const auto parts = split_heads(x, counts);
  const auto room = empty_parts({parts[0], parts[1], parts[2]});
  for (auto& part : room) part.copy_(at::randn_like(part));
  const auto given = grad({parts[0], parts[1], parts[2]}, {x}, {room[0], room[1], room[2]}, true)[0];
  CHECK(given.is_alias_of(room[0]));
  CHECK(at::equal(given, grad(plain_parts(x), {x}, {room[0], room[1], room[2]})[0]));
  // The same tensors in another order do not lie as the parts do, and neither do those of parts that were copied.
  const auto swapped = empty_parts({parts[1], parts[0], parts[2]});
  CHECK_FALSE(swapped[0].is_alias_of(swapped[1]));
  const auto apart = empty_parts({parts[0], parts[1].clone(), parts[2]});
  CHECK_FALSE(apart[0].is_alias_of(apart[1]));
  for (size_t i = 0; i < 3; ++i) CHECK(apart[i].sizes() == parts[i].sizes());
}

TEST_CASE("head layout: heads are joined as by a transpose, without a copy where positions lie outside") {
  const auto rows = at::randn({batch, length, 3, width}, at::kDouble).set_requires_grad(true);
  const auto inside = at::randn({batch, 3, length, width}, at::kDouble).set_requires_grad(true);
  const auto outside = rows.transpose(1, 2);
  CHECK(join_heads(outside).is_alias_of(rows));
  for (const auto& heads : {outside, inside}) {
    const auto& leaf = heads.is_leaf() ? heads : rows;
    const auto plain = heads.transpose(1, 2).flatten(2);
    CHECK(at::equal(join_heads(heads), plain));
    CHECK(at::equal(grad({join_heads(heads).pow(3).sum()}, {leaf})[0], grad({plain.pow(3).sum()}, {leaf})[0]));
  }
}

TEST_CASE("head layout: second derivatives are those of plain views") {
  const auto x = projection();
  const auto second = [&](const Tensor& first) { return grad({first.pow(2).sum()}, {x})[0]; };
  const auto by_parts = grad({mixed(split_heads(x, counts))}, {x}, {}, true, true)[0];
  const auto plainly = grad({mixed(plain_parts(x))}, {x}, {}, true, true)[0];
  CHECK(at::allclose(second(by_parts), second(plainly)));
  const auto heads = plain_parts(x)[0];
  const auto joined = grad({join_heads(heads).pow(3).sum()}, {x}, {}, true, true)[0];
  CHECK(at::allclose(second(joined), second(grad({heads.pow(3).sum()}, {x}, {}, true, true)[0])));
}

TEST_CASE("head layout: a change in place of what was saved is seen") {
  const auto x = projection();
  const auto parts = split_heads(x, counts);
  const auto squared = parts[0] * parts[0];  // which saves the part
  {
    const torch::NoGradGuard no_gradients;
    x.mul_(2);
  }
  CHECK_THROWS_AS(squared.sum().backward(), c10::Error);
  const auto rows = at::randn({batch, length, 3, width}, at::kDouble).set_requires_grad(true);
  const auto heads = (rows * 2).transpose(1, 2);
  const auto cubed = heads.pow(3);  // which saves the heads
  join_heads(heads).detach().mul_(2);
  CHECK_THROWS_AS(cubed.sum().backward(), c10::Error);
}

TEST_CASE("head layout: a part that is used twice has the sum of both gradients") {
  const auto x = projection();
  const auto twice = [](const std::vector<Tensor>& parts) { return mixed(parts) + (parts[0] * parts[0]).sum(); };
  CHECK(at::allclose(grad({twice(split_heads(x, counts))}, {x})[0], grad({twice(plain_parts(x))}, {x})[0]));
}

TEST_CASE("head layout: the attention kernel's gradients go back to the projection without a copy") {
  NEEDS_KERNELS(at::kFloat);
  const auto x = at::randn({2, 16, 4 * 8}).set_requires_grad(true);
  const auto out = [&](const std::vector<Tensor>& parts) {
    return attention_kernel(parts[0], parts[1], parts[2], Band{.ahead = 0}, 256, at::kFloat);
  };
  const std::vector<int64_t> heads = {2, 1, 1};
  std::vector<Tensor> plain;
  for (const auto& part : x.view({2, 16, 4, 8}).split_with_sizes(heads, 2)) plain.push_back(part.transpose(1, 2));
  const auto upstream = at::randn({2, 2, 16, 8});
  CHECK(at::equal(grad({out(split_heads(x, heads))}, {x}, {upstream})[0], grad({out(plain)}, {x}, {upstream})[0]));
}

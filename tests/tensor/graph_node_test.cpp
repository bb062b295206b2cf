#include "tensor/graph_node.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <torch/csrc/autograd/autograd.h>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using torch::Tensor;
using torch::autograd::grad;
using torch::autograd::variable_list;

namespace {

int64_t nodes_alive = 0;

/// factor (x exp(w)), of which its own output is kept; w may be undefined: 0
class Scaled : public GraphNode<Scaled> {
 public:
  Scaled() { ++nodes_alive; }
  ~Scaled() override { --nodes_alive; }

  Tensor forward(const Tensor& x, const Tensor& w, double factor) {
    factor_ = factor;
    Tensor out = factor * (w.defined() ? x * w.exp() : x);
    keep({w, out});
    return out;
  }
  variable_list backward(const variable_list& of) {
    const auto saved = kept();
    asked = {wants(0), wants(1)};
    const Tensor of_x = factor_ * (saved[0].defined() ? of[0] * saved[0].exp() : of[0]);
    return {of_x, wants(1) ? of[0] * saved[1] : Tensor()};
  }
  static inline std::pair<bool, bool> asked;

 private:
  double factor_ = 0;
};

/// x and 2 x, the first of which alone is learnt from where `Learnt` is 1
template <bool Sees, size_t Learnt>
class Both : public GraphNode<Both<Sees, Learnt>> {
 public:
  static constexpr bool sees_missing_gradients = Sees;
  static constexpr size_t differentiable_outputs = Learnt;
  variable_list forward(const Tensor& x) { return {x.clone(), 2 * x}; }
  variable_list backward(const variable_list& of) {
    given = of;
    return {of[0].defined() ? of[0].clone() : Tensor()};
  }
  static inline variable_list given;
};

/// 2 x, by a factor that nobody else has.
class Doubled : public GraphNode<Doubled> {
 public:
  Tensor forward(const Tensor& x) {
    keep({torch::full({}, 2, x.options())});
    return 2 * x;
  }
  variable_list backward(const variable_list& of) { return {kept()[0] * of[0]}; }
};

/// What no operation may do.
class Same : public GraphNode<Same> {
 public:
  Tensor forward(const Tensor& x, const Tensor& /*beside*/) { return x; }
  variable_list backward(const variable_list& of) { return {of[0], Tensor()}; }
};

Tensor numbers() { return torch::arange(1, 7, torch::kDouble).view({2, 3}); }

}  // namespace

TEST_CASE("graph node: an operation's own backward pass is what autograd calls") {
  const auto x = numbers().requires_grad_(), w = (0.1 * numbers()).requires_grad_();
  const auto out = Scaled::apply(x, w, 3.0);
  CHECK(at::equal(out, 3 * (x * w.exp())));
  const auto of = grad({out.square().sum()}, {x, w});
  const auto again = grad({(3 * (x * w.exp())).square().sum()}, {x, w});
  CHECK(at::allclose(of[0], again[0], 1e-14));
  CHECK(at::allclose(of[1], again[1], 1e-14));
}

TEST_CASE("graph node: a node is told which gradients are asked for, and undefined inputs stay undefined") {
  const auto x = numbers().requires_grad_(), w = (0.1 * numbers()).requires_grad_();
  CHECK(grad({Scaled::apply(x, w, 3.0).sum()}, {x})[0].defined());
  CHECK(Scaled::asked == std::pair(true, false));
  CHECK(grad({Scaled::apply(x.detach(), w, 3.0).sum()}, {w})[0].defined());
  CHECK(Scaled::asked == std::pair(false, true));
  const auto of = grad({Scaled::apply(x, Tensor(), 3.0).sum()}, {x});
  CHECK(at::equal(of[0], torch::full_like(x, 3)));
  CHECK(Scaled::asked == std::pair(true, false));
}

TEST_CASE("graph node: without gradients wanted, nothing is recorded") {
  const int64_t before = nodes_alive;
  const auto x = numbers();
  const auto plain = Scaled::apply(x, Tensor(), 3.0);
  CHECK_FALSE(plain.requires_grad());
  const torch::NoGradGuard guard;
  const auto unwanted = Scaled::apply(x.clone().requires_grad_(), Tensor(), 3.0);
  CHECK_FALSE(unwanted.requires_grad());
  CHECK(nodes_alive == before);
}

TEST_CASE("graph node: a graph that is kept goes back twice, to the same gradients, and hooks see them") {
  const auto x = numbers().requires_grad_(), w = numbers().requires_grad_();
  const auto out = Scaled::apply(x, w, 3.0);
  int64_t seen = 0;
  out.register_hook([&](const Tensor&) { ++seen; });
  const auto loss = out.square().sum();
  const auto first = grad({loss}, {x, w}, {}, /*retain_graph=*/true), second = grad({loss}, {x, w});
  CHECK(at::equal(first[0], second[0]));
  CHECK(at::equal(first[1], second[1]));
  CHECK(seen == 2);
}

TEST_CASE("graph node: an input that is put out is refused") {
  const auto x = numbers().requires_grad_(), still = numbers();
  CHECK_THROWS_WITH(Same::apply(x, Tensor()), ContainsSubstring("an input was put out"));
  CHECK_THROWS_WITH(Same::apply(still, x), ContainsSubstring("an input was put out"));
  CHECK(x.is_leaf());
  CHECK_FALSE(still.requires_grad());
}

TEST_CASE("graph node: a node that keeps its own output goes when the output does") {
  const int64_t before = nodes_alive;
  {
    const auto x = numbers().requires_grad_();
    const auto out = Scaled::apply(x, x, 3.0);
    CHECK(nodes_alive == before + 1);
    const auto used = Scaled::apply(x, x, 3.0);
    grad({used.sum()}, {x});
  }
  CHECK(nodes_alive == before);
}

TEST_CASE("graph node: a second backward pass, and a change of what was kept, are refused") {
  const auto x = numbers().requires_grad_(), w = numbers().requires_grad_();
  const auto loss = Scaled::apply(x, w, 3.0).sum();
  grad({loss}, {x});
  CHECK_THROWS_WITH(grad({loss}, {x}), ContainsSubstring("second time"));
  const auto changed = Scaled::apply(x, w, 3.0);
  const auto sum = changed.sum();
  {
    const torch::NoGradGuard guard;
    w.add_(1);
  }
  CHECK_THROWS_WITH(grad({sum}, {x}), ContainsSubstring("modified by an inplace operation"));
}

TEST_CASE("graph node: gradients that nobody gave are zeros, or missing for who wants to know") {
  const auto x = numbers().requires_grad_();
  grad({Both<false, SIZE_MAX>::apply(x)[0].sum()}, {x});
  CHECK(at::equal(Both<false, SIZE_MAX>::given[1], torch::zeros_like(x)));
  grad({Both<true, SIZE_MAX>::apply(x)[0].sum()}, {x});
  CHECK_FALSE(Both<true, SIZE_MAX>::given[1].defined());
}

TEST_CASE("graph node: outputs past the learnt ones are no part of the graph") {
  const auto x = numbers().requires_grad_();
  const auto both = Both<true, 1>::apply(x);
  CHECK(both[0].requires_grad());
  CHECK_FALSE(both[1].requires_grad());
  grad({both[0].sum()}, {x});
  CHECK(Both<true, 1>::given.size() == 1);
}

TEST_CASE("graph node: what only the node has is kept as it is, and refused a second time all the same") {
  const auto x = numbers().requires_grad_();
  const auto loss = Doubled::apply(x).sum();
  CHECK(at::equal(grad({loss}, {x}, {}, /*retain_graph=*/true)[0], torch::full_like(x, 2)));
  CHECK(at::equal(grad({loss}, {x})[0], torch::full_like(x, 2)));
  CHECK_THROWS_WITH(grad({loss}, {x}), ContainsSubstring("second time"));
}

TEST_CASE("leaf gradients: nodes add to the leaves what autograd would, and only where it is said") {
  const auto of_both = [](bool by_nodes, int passes, bool retained) {
    const auto x = numbers().requires_grad_(), w = (0.1 * numbers()).requires_grad_();
    for (int pass = 0; pass < passes; ++pass) {
      std::optional<LeafGradients> guard;
      if (by_nodes) guard.emplace();
      // w is a leaf of two nodes and of autograd's own product; x of one, and seen through another
      const auto once = Scaled::apply(x, w, 3.0);
      const auto loss = (Scaled::apply(once * w, w, 2.0)).square().sum();
      loss.backward({}, retained);
      if (retained) loss.backward();
    }
    return std::pair(x.grad(), w.grad());
  };
  for (const int passes : {1, 3})
    for (const bool retained : {false, true}) {
      const auto own = of_both(true, passes, retained), expected = of_both(false, passes, retained);
      CHECK(at::allclose(own.first, expected.first, 1e-13));
      CHECK(at::allclose(own.second, expected.second, 1e-13));
    }
}

TEST_CASE("leaf gradients: a leaf with hooks and one that somebody watches stay with autograd, others are not found") {
  const auto x = numbers().requires_grad_(), hooked = numbers().requires_grad_();
  int64_t seen = 0;
  hooked.register_hook([&](const Tensor&) { ++seen; });
  Tensor loss;
  {
    const LeafGradients by_nodes;
    loss = Scaled::apply(x, hooked, 3.0).sum();
  }
  CHECK(Scaled::apply(x, Tensor(), 3.0).grad_fn()->next_edge(0).is_valid());  // the guard is gone
  CHECK_FALSE(loss.grad_fn()->next_edge(0).function->next_edge(0).is_valid());
  loss.backward();
  CHECK(seen == 1);
  CHECK(hooked.grad().defined());
  CHECK(x.grad().defined());
  const auto accumulator = torch::autograd::impl::grad_accumulator(x);
  const LeafGradients by_nodes;
  CHECK(Scaled::apply(x, Tensor(), 3.0).grad_fn()->next_edge(0).is_valid());
}

TEST_CASE("leaf gradients: a gradient that others hold is copied, one that lies otherwise or has another dtype, too") {
  const auto x = numbers().requires_grad_();
  const auto shared = torch::ones_like(x), whole = torch::ones({2, 2, 3}, torch::kDouble);
  add_gradient(x, Tensor(shared));
  CHECK_FALSE(x.grad().is_alias_of(shared));
  add_gradient(x, torch::ones({2, 3}, torch::kFloat));
  add_gradient(x, Tensor());
  CHECK(at::equal(x.grad(), torch::full_like(x, 2)));
  CHECK(x.grad().scalar_type() == torch::kDouble);
  CHECK_THROWS_WITH(add_gradient(x, torch::ones({3, 2})), ContainsSubstring("expected one of its sizes"));

  x.mutable_grad() = Tensor();
  add_gradient(x, torch::ones({3, 2}, torch::kDouble).t());
  CHECK(x.grad().is_contiguous());
  x.mutable_grad() = Tensor();
  add_gradient(x, whole[0]);  // a part of what others read
  CHECK_FALSE(x.grad().is_alias_of(whole));
  x.mutable_grad() = whole[1];
  add_gradient(x, torch::ones({2, 3}, torch::kDouble));
  CHECK(at::equal(x.grad(), torch::full_like(x, 2)));
  CHECK(at::equal(whole, torch::ones_like(whole)));
  x.mutable_grad() = Tensor();
  auto own = torch::ones({2, 3}, torch::kDouble);
  const auto* place = own.const_data_ptr();
  add_gradient(x, std::move(own));
  CHECK(x.grad().const_data_ptr() == place);
}

TEST_CASE("leaf gradients: what cannot be added rightly is refused, and the guard ends with its scope") {
  const auto x = numbers().requires_grad_();
  std::optional<LeafGradients> by_nodes(std::in_place);
  const auto keeps_nothing = Both<true, SIZE_MAX>::apply(x)[0].sum();
  keeps_nothing.backward();
  CHECK_THROWS_WITH(keeps_nothing.backward(), ContainsSubstring("second time"));
  const auto loss = Doubled::apply(x).sum();
  CHECK_THROWS_WITH(loss.backward({}, /*retain_graph=*/true, /*create_graph=*/true), ContainsSubstring("create_graph"));
  const auto root = numbers().requires_grad_(), middle = root * 2, beside = numbers().requires_grad_();
  CHECK(grad({Scaled::apply(middle, beside, 3.0).sum()}, {middle})[0].defined());
  CHECK(beside.grad().defined());  // as the header says
  try {
    const LeafGradients inner;
    throw 1;
  } catch (int) {
  }
  CHECK(adds_gradient_of(x));
  by_nodes.reset();
  CHECK_FALSE(adds_gradient_of(x));
}

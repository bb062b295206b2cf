#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <ATen/Functions.h>

#include "attention/registry.h"
#include "model/attention_choice.h"
#include "model/transformer.h"
#include "small_model.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

// small_options: width 12 in 3 heads of D = 4

TEST_CASE("logit scale: 1 / D and 1 are queries that are shorter and longer by sqrt(D), in outputs and gradients") {
  torch::manual_seed(4);
  const auto tokens = torch::randint(11, {2, 7}, torch::kInt64);
  for (const auto& [name, factor] : {std::pair<std::string, double>{"inverse", 0.5}, {"none", 2.0}}) {
    INFO(name);
    Transformer scaled(small_options({.position = "rotary", .logit_scale = name, .initialisation = "xavier"}), {}, 8,
                       3);
    Transformer plain(small_options({.position = "rotary", .initialisation = "xavier"}), {}, 8, 3);
    scaled.to(torch::kFloat64), plain.to(torch::kFloat64);
    for (auto& item : plain.named_parameters())
      if (item.key().ends_with("mixer.qkv.weight")) {
        const torch::NoGradGuard guard;
        item.value().narrow(0, 0, 12).mul_(factor);  // query's rows
      }
    const auto a = scaled.forward(tokens), b = plain.forward(tokens);
    CHECK(at::allclose(a, b, 0, 1e-12));
    a.square().sum().backward(), b.square().sum().backward();
    const auto of_plain = plain.named_parameters();
    for (const auto& item : scaled.named_parameters()) {
      auto expected = of_plain[item.key()].grad().clone();
      if (item.key().find("mixer.qkv.") != std::string::npos)
        expected.narrow(0, 0, 12).mul_(factor);  // by the chain rule
      INFO(item.key());
      CHECK(at::allclose(item.value().grad(), expected, 1e-9, 1e-10));
    }
  }
}

TEST_CASE("logit scale: it is refused where a variant has no logits") {
  const auto problems = model_problems(small_options({.logit_scale = "none"}),
                                       {"linear", variant_named("linear").resolve(Json::object())}, 8);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].path == "model.logit_scale");
  CHECK_THAT(problems[0].message, ContainsSubstring("linear has no logits to scale"));
  CHECK(model_problems(small_options({.logit_scale = "none"}), {}, 8).empty());
}

#include "model/embedding.h"

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

namespace {

struct Embedded {
  Embedding embedding;
  Tensor token, position;
  explicit Embedded(const std::string& kind) : embedding(resolved({.model_dim = 4, .position = kind}, 7), 6) {
    torch::manual_seed(4);
    const torch::NoGradGuard guard;
    embedding.to(torch::kFloat64);
    for (auto& parameter : embedding.parameters()) parameter.normal_();
    const auto named = embedding.named_parameters();
    token = named["token"].detach();
    if (const auto* found = named.find("position")) position = found->detach();
  }
};

}  // namespace

TEST_CASE("embedding: each kind of position adds what it documents, from the offset on") {
  const auto tokens = torch::tensor({{6, 0, 3}, {1, 1, 2}}, torch::kInt64);
  Embedded learned("learned"), sinusoidal("sinusoidal"), rotary("rotary"), none("none");
  CHECK(learned.position.sizes() == at::IntArrayRef({6, 4}));
  const auto sinusoid = sinusoidal_positions(6, 4);
  for (const int64_t offset : {0, 3})
    for (int64_t b = 0; b < 2; ++b)
      for (int64_t t = 0; t < 3; ++t) {
        const int64_t symbol = tokens[b][t].item<int64_t>();
        const auto row = [&](Embedded& e) { return e.embedding.forward(tokens, offset)[b][t]; };
        CHECK(at::equal(row(learned), learned.token[symbol] + learned.position[offset + t]));
        // sqrt(4) = 2 exactly
        CHECK(at::equal(row(sinusoidal), 2 * sinusoidal.token[symbol] + sinusoid[offset + t]));
        CHECK(at::equal(row(rotary), rotary.token[symbol]));
        CHECK(at::equal(row(none), none.token[symbol]));
      }
}

TEST_CASE("embedding: only learned positions are parameters") {
  CHECK(Embedded("learned").embedding.parameters().size() == 2);
  for (const auto* kind : {"sinusoidal", "rotary", "none"}) CHECK(Embedded(kind).embedding.parameters().size() == 1);
}

TEST_CASE("embedding: factorised, scaled and normalised, and the tied head's way back") {
  Embedding embedding(resolved({.model_dim = 4,
                                .position = "learned",
                                .norm = "rms_norm",
                                .embedding_dim = 3,
                                .embedding_scale = true,
                                .embedding_norm = true,
                                .norm_epsilon = 0.01},
                               7),
                      6);
  torch::manual_seed(4);
  const torch::NoGradGuard guard;
  embedding.to(torch::kFloat64);
  for (auto& parameter : embedding.parameters()) parameter.normal_();
  const auto p = embedding.named_parameters();
  CHECK(p["token"].sizes() == at::IntArrayRef({7, 3}));
  const auto effective = at::matmul(p["token"], p["up.weight"].t());  // [V, M]
  const auto tokens = torch::tensor({{6, 0, 3}}, torch::kInt64);
  const auto sum = 2 * effective.index_select(0, tokens[0]) + p["position"].narrow(0, 1, 3);
  const auto expected = sum / (sum.pow(2).mean(-1, true) + 0.01).sqrt() * p["norm.weight"];
  // float64, products of 3 terms.
  CHECK((embedding.forward(tokens, 1)[0] - expected).abs().max().item<double>() < 1e-13);
  const auto x = torch::randn({1, 3, 4}, torch::kFloat64);
  CHECK((embedding.logits(x) - at::matmul(x, effective.t())).abs().max().item<double>() < 1e-13);
}

TEST_CASE("embedding: under muP the scale is the base width's") {
  Embedding embedding(resolved({.model_dim = 16, .position = "none", .embedding_scale = true, .mup_base_dim = 4}, 7),
                      6);
  const torch::NoGradGuard guard;
  embedding.parameters()[0].fill_(1.5);
  CHECK(at::equal(embedding.forward(torch::zeros({1, 2}, torch::kInt64), 0), torch::full({1, 2, 16}, 3.0)));
}

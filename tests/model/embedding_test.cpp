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

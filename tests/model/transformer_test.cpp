#include "model/transformer.h"

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <ATen/Functions.h>

#include "attention/registry.h"
#include "core/error.h"
#include "model/attention_choice.h"
#include "model/block.h"
#include "model/largest.h"
#include "model/mixer.h"
#include "model/random_model.h"
#include "model/small_model.h"
#include "tensor/kernels/kernels.h"

using namespace attnscale;

namespace {

struct Named {
  std::string name;
  ModelOptions options;
  AttentionChoice attention;
};

/// Every architecture, around softmax, and a gate; @param head  those with this one, or all
std::vector<Named> cases(const std::string& head = "") {
  std::vector<Named> list;
  if (head.empty() || head == "next_token")
    list.push_back({"gated", small_options({.position = "rotary"}), gated_sum()});
  for (const auto& architecture : architectures())
    if (head.empty() || architecture.options.head == head)
      list.push_back({architecture.name, architecture.options, {}});
  return list;
}

std::shared_ptr<Transformer> random_model(const Named& c, int64_t context = 16) {
  return random_model(c.options, c.attention, context);
}

}  // namespace

TEST_CASE("transformer: parameter names and shapes are those documented") {
  const WithGatedSum scratch;
  const Transformer model(small_options({.tie_embeddings = false}), gated_sum(), 8, 0);
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const auto& item : model.named_parameters())
    if (!item.key().starts_with("blocks.1.")) shapes[item.key()] = item.value().sizes().vec();
  const std::map<std::string, std::vector<int64_t>> expected = {
      {"embedding.token", {11, 12}},
      {"embedding.position", {8, 12}},
      {"blocks.0.norm1.weight", {12}},
      {"blocks.0.norm1.bias", {12}},
      {"blocks.0.mixer.qkv.weight", {36, 12}},
      {"blocks.0.mixer.qkv.bias", {36}},
      {"blocks.0.mixer.gates.input.weight", {3, 12}},
      {"blocks.0.mixer.gates.input.bias", {3}},
      {"blocks.0.mixer.attention.scale", {3, 1, 1}},
      {"blocks.0.mixer.output.weight", {12, 12}},
      {"blocks.0.mixer.output.bias", {12}},
      {"blocks.0.norm2.weight", {12}},
      {"blocks.0.norm2.bias", {12}},
      {"blocks.0.feed_forward.up.weight", {48, 12}},
      {"blocks.0.feed_forward.up.bias", {48}},
      {"blocks.0.feed_forward.down.weight", {12, 48}},
      {"blocks.0.feed_forward.down.bias", {12}},
      {"final_norm.weight", {12}},
      {"final_norm.bias", {12}},
      {"head.weight", {11, 12}},
  };
  CHECK(shapes == expected);
  CHECK(model.buffers().empty());
}

TEST_CASE("transformer: without biases no parameter is called bias") {
  for (const auto* norm : {"layer_norm", "rms_norm"})
    for (const auto& item : Transformer(small_options({.norm = norm, .bias = false}), {}, 8, 0).named_parameters())
      CHECK(!item.key().ends_with("bias"));
}

TEST_CASE("transformer: one block equals its equations written out") {
  // Residuals, norms and the order of query, key and value rows; one head so that attention is three lines.
  auto options = small_options();
  options.depth = 1;
  options.num_heads = 1;
  options.num_kv_heads = 1;
  const auto model = random_model({"", options, {}});
  const auto p = model->named_parameters();
  const auto tokens = some_tokens(1, 6);
  const auto norm = [&](const Tensor& x, const std::string& name) {
    const auto centred = x - x.mean(-1, true);
    return centred / (centred.pow(2).mean(-1, true) + 1e-5).sqrt() * p[name + ".weight"] + p[name + ".bias"];
  };
  const auto linear = [&](const Tensor& x, const std::string& name) {
    return at::matmul(x, p[name + ".weight"].t()) + p[name + ".bias"];
  };
  auto x = p["embedding.token"].index_select(0, tokens[0]) + p["embedding.position"].narrow(0, 0, 6);  // [T, M]
  const auto qkv = linear(norm(x, "blocks.0.norm1"), "blocks.0.mixer.qkv").chunk(3, -1);
  const auto scores = at::matmul(qkv[0], qkv[1].t()) / std::sqrt(12.0);
  const auto future = torch::ones({6, 6}, torch::kBool).triu(1);
  const auto weights = scores.masked_fill(future, -1e30).softmax(-1);
  x = x + linear(at::matmul(weights, qkv[2]), "blocks.0.mixer.output");
  const auto hidden = linear(norm(x, "blocks.0.norm2"), "blocks.0.feed_forward.up");
  x = x + linear(hidden * 0.5 * (1 + at::erf(hidden / std::sqrt(2.0))), "blocks.0.feed_forward.down");
  const auto expected = at::matmul(norm(x, "final_norm"), p["embedding.token"].t());
  // float64 through about ten products of width 12 to 48, logits of order 1.
  CHECK(largest(model->forward(tokens)[0] - expected) < 1e-11);
}

TEST_CASE("transformer: heads are read head by head, and key-value heads are shared by neighbours") {
  // Three query heads on one key-value head equal three heads whose key and value rows are copies.
  auto grouped_options = small_options({.num_kv_heads = 1});
  const auto grouped = random_model({"", grouped_options, {}});
  const auto full = random_model({"", small_options(), {}});
  const torch::NoGradGuard guard;
  auto target = full->named_parameters();
  for (const auto& item : grouped->named_parameters()) {
    const auto& source = item.value();
    if (item.key().find(".qkv.") == std::string::npos) {
      target[item.key()].copy_(source);
      continue;
    }
    const auto query = source.narrow(0, 0, 12), key = source.narrow(0, 12, 4), value = source.narrow(0, 16, 4);
    target[item.key()].copy_(at::cat({query, key, key, key, value, value, value}));
  }
  const auto tokens = some_tokens(2, 7);
  CHECK(largest(grouped->forward(tokens) - full->forward(tokens)) < 1e-11);
}

TEST_CASE("transformer: logits depend on earlier tokens only, and on each of them") {
  const WithGatedSum scratch;
  const auto c = GENERATE(from_range(cases("next_token")));
  CAPTURE(c.name);
  const auto model = random_model(c);
  const auto tokens = some_tokens(1, 6);
  const auto logits = model->forward(tokens);
  for (int64_t changed = 0; changed < 6; ++changed) {
    auto other = tokens.clone();
    other[0][changed] = (tokens[0][changed].item<int64_t>() + 1) % 11;
    const auto difference = (model->forward(other) - logits).abs().amax(-1)[0];  // [T]
    if (changed > 0) CHECK(largest(difference.narrow(0, 0, changed)) < 1e-12);
    CHECK(difference.narrow(0, changed, 6 - changed).min().item<double>() > 1e-6);
  }
}

TEST_CASE("transformer: without causality every output depends on every token") {
  for (const auto& c : cases("masked_token")) {
    CAPTURE(c.name);
    const auto model = random_model(c);
    const auto tokens = some_tokens(1, 6);
    const auto logits = model->forward(tokens);
    for (int64_t changed = 0; changed < 6; ++changed) {
      auto other = tokens.clone();
      other[0][changed] = (tokens[0][changed].item<int64_t>() + 1) % 11;
      CHECK((model->forward(other) - logits).abs().amax(-1).min().item<double>() > 1e-6);
    }
  }
}

TEST_CASE("transformer: a decoder sees all of the encoder's input, and its own earlier tokens only") {
  for (const auto& c : cases("encoder_decoder")) {
    CAPTURE(c.name);
    const auto model = random_model(c);
    const auto tokens = some_tokens(1, 7);
    const int64_t read = *c.options.input_length, written = 8 - read;
    const auto logits = model->forward(tokens);
    REQUIRE(logits.sizes() == at::IntArrayRef{1, written, 11});
    for (int64_t changed = 0; changed < 7; ++changed) {
      auto other = tokens.clone();
      other[0][changed] = (tokens[0][changed].item<int64_t>() + 1) % 11;
      const auto difference = (model->forward(other) - logits).abs().amax(-1)[0];
      const int64_t untouched = std::max<int64_t>(0, changed - read + 1);
      if (untouched > 0) CHECK(largest(difference.narrow(0, 0, untouched)) < 1e-12);
      CHECK(difference.narrow(0, untouched, written - untouched).min().item<double>() > 1e-6);
    }
    CHECK_THROWS_AS(model->forward(some_tokens(1, read - 1)), ShapeError);
    CHECK_THROWS_AS(model->observe(tokens, [](int64_t, Attention&, const Inputs&) {}), ConfigError);
    CHECK_THROWS_AS(model->new_state(1), ConfigError);
  }
}

TEST_CASE("transformer: a classifier's logits are the head's product with the mean, the first or the last state") {
  const torch::NoGradGuard guard;
  const auto tokens = some_tokens(2, 7);
  for (const bool causal : {false, true}) {
    // The same weights; the head is linear, so that the logits of the mean are the mean of logits.
    const auto options = small_options({.vocab_size = 11, .head = "masked_token", .causal = causal});
    const auto by_position = random_model({"", options, {}})->forward(tokens);  // [2, 7, 11]
    for (const std::string pooling : {"mean", "first", "last"}) {
      if (causal && pooling == "first") continue;
      const auto model =
          random_model({"", small_options({.head = "classify", .pooling = pooling, .causal = causal}), {}});
      const auto expected = pooling == "mean"    ? by_position.mean(1)
                            : pooling == "first" ? by_position.select(1, 0)
                                                 : by_position.select(1, 6);
      const auto logits = model->forward(tokens);
      CHECK(logits.sizes() == at::IntArrayRef{2, 1, 11});
      CHECK(largest(logits.select(1, 0) - expected) < 1e-12);
    }
  }
}

TEST_CASE("transformer: gradients reach every parameter") {
  const WithGatedSum scratch;
  const auto c = GENERATE(from_range(cases()));
  CAPTURE(c.name);
  const auto model = random_model(c, 6);
  const auto tokens = some_tokens(3, 6);
  at::log_softmax(model->forward(tokens), -1).select(-1, 0).sum().backward();
  for (const auto& item : model->named_parameters()) {
    CAPTURE(item.key());
    REQUIRE(item.value().grad().defined());
    auto gradient = item.value().grad();
    if (item.key().ends_with("qkv.bias") && c.attention.variant == "softmax" && c.options.position != "rotary" &&
        c.options.qk_norm == "none") {
      // Softmax ignores what all keys share: the key bias has no gradient by definition.
      gradient = torch::cat({gradient.narrow(0, 0, 12), gradient.narrow(0, gradient.size(0) - 4, 4)});
    }
    if (item.key().find("qkv") != std::string::npos && c.attention.variant == "gated_sum")
      gradient = gradient.narrow(0, 24, 12);                         // the scratch variant reads values only
    if (item.key() == "position_bias.weight" && !*c.options.causal)  // no distance of 0 lies ahead
      gradient = torch::cat({gradient.narrow(0, 0, 3), gradient.narrow(0, 4, 2)});
    const auto rows = gradient.dim() > 1 ? gradient.flatten(1).abs().amax(-1) : gradient.abs();
    const bool may_be_silent = c.options.feed_forward.find("relu") != std::string::npos ||
                               c.options.feed_forward == "reglu";  // a unit below zero at all 18 positions
    const bool seldom = item.key() == "embedding.token" || item.key() == "head.weight" ||
                        // Six positions in two parts do not reach every distance.
                        (c.options.head == "encoder_decoder" && item.key().ends_with("position_bias.weight"));
    if (seldom) CHECK(largest(rows) > 0);
    else if (may_be_silent && item.key().find("feed_forward.") != std::string::npos)
      CHECK((rows > 0).to(torch::kFloat64).mean().item<double>() > 0.25);
    else CHECK(rows.min().item<double>() > 0);
  }
}

TEST_CASE("transformer: decoding equals the forward pass for every split") {
  const WithGatedSum scratch;
  const torch::NoGradGuard guard;
  const auto c = GENERATE(from_range(cases("next_token")));
  CAPTURE(c.name);
  const auto model = random_model(c);
  const auto tokens = some_tokens(2, 13);
  const auto expected = model->forward(tokens);
  const auto split = GENERATE(
      values<std::vector<int64_t>>({{13}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 12}, {7, 6}, {5, 1, 7}}));
  auto state = model->new_state(2);
  std::vector<Tensor> pieces;
  for (const auto count : split) pieces.push_back(model->decode(tokens.narrow(1, state.length, count), state));
  CHECK(state.length == 13);
  CHECK(largest(at::cat(pieces, 1) - expected) < 1e-10);
}

TEST_CASE("transformer: decoding in float32 and bfloat16 is the forward pass in float64 but for rounding") {
  const WithGatedSum scratch;
  const torch::NoGradGuard guard;
  const auto c = GENERATE(from_range(cases("next_token")));
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  CAPTURE(c.name, dtype);
  const auto model = random_model(c);
  const auto tokens = some_tokens(1, 13);
  const auto expected = model->forward(tokens);
  model->to(dtype);
  auto state = model->new_state(1);
  std::vector<Tensor> pieces;
  for (int64_t t = 0; t < 13; ++t) pieces.push_back(model->decode(tokens.narrow(1, t, 1), state).to(at::kDouble));
  CHECK(largest(at::cat(pieces, 1) - expected) < (dtype == at::kFloat ? 1e-4 : 0.1) * largest(expected));
}

TEST_CASE("transformer: the state's bytes are those of its layers") {
  const torch::NoGradGuard guard;
  Transformer model(small_options(), {}, 16, 0);
  auto state = model.new_state(2);
  model.decode(some_tokens(2, 5), state);
  // 2 layers x (key and value) x batch 2 x 3 heads x 5 positions x width 4 x 4 bytes
  CHECK(state.bytes() == 2 * 2 * 2 * 3 * 5 * 4 * 4);
}

TEST_CASE("transformer: a text longer than the context is refused with both numbers") {
  using Catch::Matchers::ContainsSubstring;
  Transformer model(small_options(), {}, 8, 0);
  CHECK_THROWS_AS(model.forward(some_tokens(1, 9)), ShapeError);
  auto state = model.new_state(1);
  model.decode(some_tokens(1, 6), state);
  CHECK_THROWS_WITH(model.decode(some_tokens(1, 3), state),
                    ContainsSubstring("3 tokens after 6 others") && ContainsSubstring("context of 8"));
}

TEST_CASE("transformer: options that cannot be built are refused by the constructor") {
  auto options = small_options();
  options.num_heads = 5;
  CHECK_THROWS_AS(Transformer(options, {}, 8, 0), ConfigError);
}

TEST_CASE("transformer: dropout acts in training mode only, and its draws follow the default generator's seed") {
  Transformer model(small_options({.dropout = 0.5}), {}, 8, 0);
  Transformer plain(small_options(), {}, 8, 0);
  const auto tokens = some_tokens(2, 8);
  model.eval();
  plain.train();
  CHECK(at::equal(model.forward(tokens), plain.forward(tokens)));
  model.train();
  const auto draw = [&](uint64_t seed) {
    torch::manual_seed(seed);
    return model.forward(tokens);
  };
  CHECK(at::equal(draw(1), draw(1)));
  CHECK(!at::equal(draw(1), draw(2)));
}

TEST_CASE("transformer: dropout zeroes its share of the embedding") {
  const KernelsAsBefore as_before;
  set_kernels(GENERATE(true, false));
  // Silent sublayers (output weights and biases 0) and every embedding (1, -1): the final LayerNorm gives (1, -1)
  // unless both numbers were dropped, when it gives 0. The share of zero logits is p^2.
  auto options = small_options({.position = "none", .dropout = 0.25});
  options.model_dim = 2;
  options.embedding_dim = 2;
  options.num_heads = 1;
  options.num_kv_heads = 1;
  Transformer model(options, {}, 4096, 0);
  const torch::NoGradGuard guard;
  for (auto& item : model.named_parameters()) {
    if (item.key().find("output") != std::string::npos || item.key().find("down") != std::string::npos)
      item.value().zero_();
    if (item.key() == "embedding.token") item.value().copy_(torch::tensor({1.0F, -1.0F}).expand({11, 2}));
  }
  torch::manual_seed(10);
  const auto logits = model.forward(torch::zeros({4, 4096}, torch::kInt64)).select(-1, 0);
  const double share = (logits == 0).to(torch::kFloat64).mean().item<double>();
  // 16384 draws of probability 1/16: standard error 0.0019; five of them.
  CHECK(std::abs(share - 0.0625) < 0.0095);
}

TEST_CASE("transformer: dropout zeroes its share of both sublayers' outputs and scales up the rest") {
  const KernelsAsBefore as_before;
  set_kernels(GENERATE(true, false));
  const auto options = small_options({.position = "none", .dropout = 0.25});
  const auto geometry = attention_geometry(options, 512, 0);
  Block block(options, 0, std::make_shared<Mixer>(options, AttentionChoice{}, geometry, nullptr, 0),
              std::make_shared<RowDrops>());
  const torch::NoGradGuard guard;
  for (const std::string sublayer : {"mixer.output.bias", "feed_forward.down.bias"}) {
    CAPTURE(sublayer);
    // One sublayer says 1 everywhere, the other 0, on a stream of zeros.
    for (auto& item : block.named_parameters()) item.value().fill_(item.key() == sublayer ? 1 : 0);
    torch::manual_seed(11);
    const auto out = block.forward(torch::zeros({4, 512, 12}), 0, nullptr);
    const auto dropped = out == 0;
    CHECK(at::all(at::logical_or(dropped, (out - 1 / 0.75).abs() < 1e-6)).item<bool>());
    // 24576 draws of probability 1/4: standard error 0.0028; five of them.
    CHECK(std::abs(dropped.to(torch::kFloat64).mean().item<double>() - 0.25) < 0.014);
  }
}

TEST_CASE("transformer: rotary logits do not change when all positions move on together") {
  // Positions reach a model through its mixers alone; a fresh state lets the first row stand anywhere.
  const auto shifted = [](const AttentionChoice& choice, int64_t model_dim) {
    auto options = small_options({.position = "rotary"});
    options.model_dim = model_dim;
    const int64_t T = 6, shift = 5;
    Mixer mixer(options, choice, attention_geometry(options, 16, 0),
                std::make_shared<Rotary>(16, model_dim / 3 / variant_named(choice.variant).rotary_parts, 10000.0), 1);
    const torch::NoGradGuard guard;
    mixer.to(torch::kFloat64);
    torch::manual_seed(2);
    for (auto& parameter : mixer.parameters()) parameter.normal_(0, 0.6);
    const auto x = at::randn({2, T, model_dim}, torch::kFloat64);
    auto here = mixer.attention().new_state(2, torch::kFloat64), there = here;
    const auto early = mixer.forward(x, 0, &here), late = mixer.forward(x, shift, &there);
    CHECK(largest(early) > 0.1);
    return largest(early - late);
  };
  // Rounding of angles and of sums of a few dozen float64 numbers.
  CHECK(shifted({}, 12) < 1e-12);
  CHECK(shifted({.variant = "differential", .options = Json::object()}, 12) < 1e-12);
}

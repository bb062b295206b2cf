#include "train/evaluate.h"

#include <cmath>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "data/registry.h"
#include "train/stepper.h"

using namespace attnscale;

namespace {

constexpr int64_t context = 20;

std::shared_ptr<const Source> made(const std::string& name, const Json& options) {
  const auto& info = source_named(name);
  return info.make(info.resolve(options));
}

Transformer small_model(int64_t vocabulary) {
  ModelOptions options;
  options.depth = 1;
  options.model_dim = 16;
  options.num_heads = 2;
  return Transformer(resolved(options, vocabulary), {}, context, 1);
}

}  // namespace

TEST_CASE("evaluation: only asked targets count, in the loss, the accuracy and every bin") {
  const auto source = made("induction", {{"alphabet", 5}});
  auto model = small_model(source->vocab_size());
  const ValidationSet set(*source, context, 400);
  const auto evaluation = set.evaluate(model, "float32");
  CHECK(set.tokens() == 400);
  CHECK(set.num_asked() == 20);

  // By hand: the last target of each window.
  double loss = 0, hits = 0;
  const auto batch = source->batch(Split::validation, 0, 0, 20, context);
  const torch::NoGradGuard no_gradients;
  model.eval();
  const auto logits = model.forward(questions_of(batch, {}, 0).inputs).select(1, context - 1).to(torch::kFloat64);
  for (int64_t row = 0; row < 20; ++row) {
    const int64_t answer = batch.tokens[row * (context + 1) + context];
    loss -= at::log_softmax(logits[row], 0)[answer].item<double>() / 20;
    hits += logits[row].argmax().item<int64_t>() == answer;
  }
  CHECK(evaluation.loss == Catch::Approx(loss).epsilon(1e-5));  // float32 log-softmax there, float64 here
  CHECK(evaluation.accuracy == Catch::Approx(hits / 20));

  REQUIRE(evaluation.positions.size() == 1);
  CHECK(evaluation.positions[0].first == context);
  CHECK(evaluation.positions[0].count == 20);
  CHECK(evaluation.positions[0].loss == Catch::Approx(evaluation.loss));
  int64_t by_distance = 0;
  for (const auto& bin : evaluation.distances) {
    by_distance += bin.count;
    CHECK((bin.first & (bin.first - 1)) == 0);
    CHECK(bin.last == 2 * bin.first - 1);
  }
  CHECK(by_distance == 20);
}

TEST_CASE("evaluation: bins by position add up to the whole, and the Bayes loss has an error") {
  const auto source = made("dirichlet", Json::object());
  auto model = small_model(source->vocab_size());
  const ValidationSet set(*source, context, 4000);
  const auto evaluation = set.evaluate(model, "float32");
  REQUIRE(evaluation.positions.size() == context);
  double loss = 0, bayes = 0;
  for (const auto& bin : evaluation.positions) loss += bin.loss / context, bayes += bin.bayes_loss / context;
  CHECK(loss == Catch::Approx(evaluation.loss));
  CHECK(bayes == Catch::Approx(*evaluation.bayes_loss));
  CHECK(evaluation.distances.empty());
  // The truth lies within five standard errors of what the set happens to have.
  const auto truth = source->truth(context);
  CHECK(std::abs(*evaluation.bayes_loss - truth->bayes_loss) < 5 * *evaluation.bayes_loss_error);
  CHECK(*evaluation.bayes_loss_error < 0.05);
}

TEST_CASE("training: a target that is not asked for has no gradient") {
  const auto source = made("induction", {{"alphabet", 5}});
  auto model = small_model(source->vocab_size());
  auto batch = source->batch(Split::train, 1, 0, 4, context);
  const auto inputs = questions_of(batch, {}, 0).inputs.clone();
  const auto loss_with = [&](const Batch& targets_from) {
    return at::cross_entropy_loss(logits_of(model, inputs, "float32"),
                                  questions_of(targets_from, {}, 0).targets.flatten(), {}, at::Reduction::Mean,
                                  not_asked);
  };
  auto changed = batch;
  for (int64_t row = 0; row < 4; ++row)  // every target but the last
    std::fill_n(changed.tokens.begin() + row * (context + 1) + 1, context - 1, 1);
  CHECK(loss_with(batch).item<double>() == loss_with(changed).item<double>());
}

TEST_CASE("evaluation: of a reconstruction every symbol counts, by its place and by its distance to the last input") {
  const auto source = made("compression", {{"alphabet", 5}});
  ModelOptions options;
  options.depth = 1;
  options.model_dim = 16;
  options.head = "reconstruct";
  options = resolved(options, source->vocab_size());
  Transformer model(options, {}, context, 1);
  const ValidationSet set(*source, context, 200, options);
  CHECK(set.num_asked() == 10 * (context - 1));
  const auto evaluation = set.evaluate(model, "float32");
  CHECK(evaluation.bayes_loss == 0.0);
  REQUIRE(evaluation.positions.size() == context - 1);
  CHECK(evaluation.positions.front().count == 10);
  int64_t by_distance = 0;
  for (const auto& bin : evaluation.distances) by_distance += bin.count;
  CHECK(by_distance == set.num_asked());
  // By hand: the first symbol of each window.
  const torch::NoGradGuard no_gradients;
  model.eval();
  const auto batch = source->batch(Split::validation, 0, 0, 10, context);
  const auto inputs = questions_of(batch, options, 0).inputs;
  const auto log_probabilities = at::log_softmax(model.forward(inputs).select(1, 0).to(torch::kFloat64), -1);
  const auto loss = -log_probabilities.gather(1, inputs.narrow(1, 0, 1)).mean().item<double>();
  CHECK(evaluation.positions.front().loss == Catch::Approx(loss).epsilon(1e-5));  // float32 log-softmax there
}

TEST_CASE("evaluation: a masked token's loss stands beside no Bayes loss, a classifier's beside the source's") {
  const auto with = [](const char* name, const char* head, const Json& data) {
    const auto source = made(name, data);
    ModelOptions options;
    options.depth = 1;
    options.model_dim = 16;
    options.head = head;
    if (options.head == "encoder_decoder") options.input_length = 15;
    options = resolved(options, source->vocab_size());
    Transformer model(options, {}, context, 1);
    CHECK(truth_of(*source, options, context).has_value() == (std::string(name) == "majority"));
    return ValidationSet(*source, context, 400, options).evaluate(model, "float32");
  };
  const auto masked = with("dirichlet", "masked_token", Json::object());
  CHECK_FALSE(masked.bayes_loss);
  int64_t count = 0;
  for (const auto& bin : masked.positions) count += bin.count;
  CHECK(count == 20 * 3);  // 15 % of 20 in each of 20 windows
  const auto classified = with("majority", "classify", {{"alphabet", 3}});
  CHECK(classified.bayes_loss == 0.0);
  REQUIRE(classified.positions.size() == 1);
  CHECK(classified.positions[0].last == context);
  CHECK(classified.positions[0].count == 20);
  // A decoder's Bayes loss is that of the last 20 + 1 - 15 targets.
  const auto continued = with("dirichlet", "encoder_decoder", Json::object());
  const auto source = made("dirichlet", Json::object());
  const auto scores = source->bayes_log_probabilities(source->batch(Split::validation, 0, 0, 20, context));
  double sum = 0;
  for (int64_t row = 0; row < 20; ++row)
    for (int64_t t = 14; t < 20; ++t) sum -= scores[row * 20 + t];
  CHECK(*continued.bayes_loss == Catch::Approx(sum / 120));
  CHECK(continued.positions.front().first == 15);
}

#include "data/registry.h"

#include <algorithm>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "sources_for_tests.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

TEST_CASE("sources: every source is registered once, by name, and says what it is") {
  std::vector<std::string> names;
  for (const auto& info : all_sources()) {
    names.push_back(info.name);
    CHECK_FALSE(info.summary.empty());
    CHECK_FALSE(info.source.empty());
    CHECK_FALSE(info.fields.empty());
    CHECK_FALSE(info.heads.empty());
    for (const auto& field : info.fields) CHECK_FALSE(field.doc.empty());
  }
  CHECK(names == std::vector<std::string>{"associative_recall", "compression", "copy", "dirichlet", "graph_walk",
                                          "hidden_markov", "in_context_recall", "induction", "listops", "majority",
                                          "memorization", "needle", "parity", "random_hierarchy", "selective_copy",
                                          "text", "zipf_memory"});
}

TEST_CASE("sources: an unknown name is refused with the nearest known one") {
  CHECK_THROWS_MATCHES(source_named("zipf_memroy"), ConfigError,
                       MessageMatches(ContainsSubstring("zipf_memroy") && ContainsSubstring("\"zipf_memory\"")));
}

TEST_CASE("sources: options resolve to every default, and resolving again changes nothing") {
  for (const auto& info : all_sources()) {
    const Json resolved = info.resolve(Json::object());
    for (const auto& field : info.fields) {
      INFO(info.name << " " << field.name);
      CHECK(resolved.contains(field.name) == !field.default_value.is_null());  // one that is optional stays out
    }
    CHECK(info.resolve(resolved) == resolved);
  }
  const Json given = {{"order", 0}, {"alpha", 0.5}};
  CHECK(source_named("dirichlet").resolve(given) == Json({{"num_symbols", 8}, {"order", 0}, {"alpha", 0.5}}));
}

TEST_CASE("sources: unknown, mistyped and out-of-range options are refused by name") {
  const auto refuses = [](const char* source, const Json& options, const char* part) {
    CHECK_THROWS_MATCHES(source_named(source).make(options), ConfigError, MessageMatches(ContainsSubstring(part)));
  };
  refuses("zipf_memory", {{"num_kesy", 10}}, "did you mean \"num_keys\"");
  refuses("zipf_memory", {{"num_keys", 1}}, "data.num_keys");
  refuses("zipf_memory", {{"noise", 1.5}}, "data.noise");
  refuses("hidden_markov", {{"process", "evn"}}, "\"even\"");
  refuses("hidden_markov", {{"x", 0.5}}, "data.x");
  refuses("dirichlet", {{"order", 2}}, "data.order");
  refuses("dirichlet", {{"alpha", 0}}, "data.alpha");
  refuses("text", {{"train_fraction", 1}}, "data.train_fraction");
  refuses("text", {{"tokens", "words"}}, "characters, bytes");
}

TEST_CASE("sources: options that cannot work together are refused without opening anything") {
  CHECK(source_named("text").refusals(Json::object(), 64).at(0).find("path") == 0);
  CHECK(source_named("text").refusals({{"path", "/no/such/file"}}, 64).empty());
  const auto& hidden_markov = source_named("hidden_markov");
  CHECK(hidden_markov.refusals({{"x", 0.1}, {"a", 0.5}}, 64).empty());
  // x and a would be ignored by the other processes.
  CHECK(hidden_markov.refusals({{"process", "even"}, {"x", 0.1}, {"a", 0.5}}, 64).size() == 2);
  CHECK(hidden_markov.refusals({{"process", "even"}}, 64).empty());
}

TEST_CASE("sources: the description for programs lists each option with its default") {
  const Json description = describe_source(source_named("zipf_memory"));
  CHECK(description["name"] == "zipf_memory");
  CHECK(description["options"].size() == 5);
  CHECK(description["options"][0]["name"] == "num_keys");
  CHECK(description["options"][0]["default"] == 1024);
}

namespace {

/// The smallest source: what a contributor writes.
class Constant final : public Source {
 public:
  struct Options {
    int64_t token = 1;
    static const Fields& fields() {
      static const Fields list = {field(&Options::token, "token", "the only token").between(0, 9)};
      return list;
    }
  };
  explicit Constant(const Options& options) : token_(options.token) {}
  int64_t vocab_size() const override { return 10; }
  Batch batch(Split, uint64_t, int64_t index, int64_t rows, int64_t context) const override {
    check_batch_request(index, rows, context);
    return {.rows = rows, .context = context, .tokens = std::vector<int64_t>(rows * (context + 1), token_)};
  }

 private:
  int64_t token_;
};

}  // namespace

TEST_CASE("sources: a scratch source needs vocab_size and batch, and can be removed again") {
  const size_t before = all_sources().size();
  { const RegisterSource<Constant> registered{{.name = "constant", .summary = "one token", .source = "this test"}}; }
  const auto source = make_source("constant", {{"token", 7}});
  const Batch batch = source->batch(Split::train, 0, 0, 1, 2);
  CHECK(source->decode(batch.tokens) == "7 7 7");
  CHECK(source->bayes_log_probabilities(batch).empty());
  CHECK_FALSE(source->truth(8));
  CHECK(source->fingerprint() == Json::object());
  unregister_source("constant");
  CHECK(all_sources().size() == before);
  CHECK_THROWS_AS(source_named("constant"), ConfigError);
}

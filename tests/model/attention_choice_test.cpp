#include "model/attention_choice.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "model/small_model.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

Problem only_problem(const Json& section) {
  std::vector<Problem> problems;
  read_attention(section, problems);
  REQUIRE(problems.size() == 1);
  return problems[0];
}

Problem only_problem(const ModelOptions& options, const AttentionChoice& attention = {}, int64_t context = 8) {
  const auto problems = model_problems(options, attention, context);
  REQUIRE(problems.size() == 1);
  return problems[0];
}

}  // namespace

TEST_CASE("attention section: left out it is softmax, and defaults are written out") {
  const WithGatedSum scratch;
  std::vector<Problem> problems;
  CHECK(read_attention(Json::object(), problems).variant == "softmax");
  const auto choice = read_attention({{"variant", "gated_sum"}}, problems);
  CHECK(problems.empty());
  CHECK(choice.options == Json{{"window", 4}});
  CHECK(write_attention(choice) == Json{{"variant", "gated_sum"}, {"window", 4}});
}

TEST_CASE("attention section: misspelt names are met with the nearest known one") {
  const WithGatedSum scratch;
  CHECK_THAT(only_problem({{"variant", "gated_sun"}}).message, ContainsSubstring("did you mean \"gated_sum\"?"));
  CHECK(only_problem({{"variant", "gated_sun"}}).path == "attention.variant");
  const auto key = only_problem({{"variant", "gated_sum"}, {"windw", 3}});
  CHECK(key.path == "attention.windw");
  CHECK_THAT(key.message, ContainsSubstring("did you mean \"window\"?"));
  CHECK_THAT(only_problem({{"varint", "gated_sum"}}).message, ContainsSubstring("did you mean \"variant\"?"));
}

TEST_CASE("attention section: values out of range and wrong types are refused by path") {
  const WithGatedSum scratch;
  const auto range = only_problem({{"variant", "gated_sum"}, {"window", 0}});
  CHECK(range.path == "attention.window");
  CHECK_THAT(range.message, ContainsSubstring("from 1 to 64"));
  CHECK(only_problem({{"variant", 3}}).path == "attention.variant");
  CHECK(only_problem(Json("softmax")).path == "attention");
}

TEST_CASE("attention section: all problems are told together") {
  const WithGatedSum scratch;
  std::vector<Problem> problems;
  read_attention({{"variant", "gated_sum"}, {"window", 0.5}, {"size", 1}}, problems);
  CHECK(problems.size() == 2);
}

TEST_CASE("model problems: heads that do not divide name both numbers and the nearest width") {
  auto options = small_options();
  options.model_dim = 13;
  const auto problem = only_problem(options);
  CHECK(problem.path == "model.num_heads");
  CHECK_THAT(problem.message,
             ContainsSubstring("num_heads 3 does not divide model_dim 13") && ContainsSubstring("that works is 12"));
  options.model_dim = 2;
  CHECK_THAT(only_problem(options).message, ContainsSubstring("that works is 3"));
}

TEST_CASE("model problems: rotary positions need an even head width") {
  auto options = small_options({.position = "rotary"});
  CHECK(model_problems(options, {}, 8).empty());
  options.model_dim = 15;
  const auto problem = only_problem(options);
  CHECK(problem.path == "model.position");
  CHECK_THAT(problem.message, ContainsSubstring("15 / num_heads 3 is 5") && ContainsSubstring("that works is 18"));
  options.model_dim = 16;  // neither divisible nor even: the repair cures both
  CHECK_THAT(only_problem(options).message, ContainsSubstring("that works is 18"));
}

TEST_CASE("model problems: rotary positions are refused where a variant cannot be turned by them") {
  auto options = small_options({.position = "rotary"});  // heads of 4
  const AttentionChoice differential{.variant = "differential", .options = Json::object()};
  CHECK(model_problems(options, differential, 8).empty());
  const auto infini = only_problem(options, {.variant = "infini", .options = Json::object()}, 64);
  CHECK(infini.path == "model.position");
  CHECK_THAT(infini.message, ContainsSubstring("without positions") && ContainsSubstring("\"learned\""));
  options.model_dim = 18;  // halves of 3 numbers have no pairs
  const auto odd = only_problem(options, differential);
  CHECK(odd.path == "model.position");
  CHECK_THAT(odd.message, ContainsSubstring("multiple of 4") && ContainsSubstring("that works is 24"));
}

TEST_CASE("model problems: key-value heads, context, variant and its own refusals") {
  const WithGatedSum scratch;
  auto options = small_options();
  CHECK(model_problems(options, {"gated_sum", {{"window", 4}}}, 8).empty());
  CHECK(only_problem(options, {}, 0).path == "data.context");
  CHECK_THAT(only_problem(options, {.variant = "gated_sun"}).message, ContainsSubstring("gated_sum"));
  // Both layers refuse for the same reason; it is told once.
  const auto own = only_problem(options, {"gated_sum", {{"window", 9}}});
  CHECK(own.path == "attention.variant");
  CHECK_THAT(own.message, ContainsSubstring("larger than the context"));
  options.num_kv_heads = 1;
  CHECK_THAT(only_problem(options, {"gated_sum", {{"window", 4}}}).message, ContainsSubstring("num_kv_heads to 3"));
  options.num_kv_heads = 2;
  CHECK(only_problem(options).path == "model.num_kv_heads");
}

TEST_CASE("hybrids: layers repeat over the depth, and the attention section serves the entry of its name") {
  std::vector<Problem> problems;
  auto choice = read_attention({{"variant", "sliding_window"}, {"window", 7}}, problems);
  read_layers({"sliding_window", {{"variant", "linear"}, {"chunk_length", 8}}, "softmax"}, true, choice, problems);
  REQUIRE(problems.empty());
  CHECK(at_layer(choice, 0).options["window"] == 7);
  CHECK(at_layer(choice, 1).options["chunk_length"] == 8);
  CHECK(at_layer(choice, 5).variant == "softmax");
  CHECK(label_of(choice) == "sliding_window+linear+softmax");

  auto again = read_attention(write_attention(choice), problems);
  read_layers(write_layers(choice), true, again, problems);
  CHECK(problems.empty());
  CHECK(write_layers(again) == write_layers(choice));

  AttentionChoice alone;
  read_layers({"linear", "linear", "softmax"}, false, alone, problems);
  CHECK(alone.variant == "linear");
  CHECK(label_of(alone) == "linear*2+softmax");
}

TEST_CASE("hybrids: what nothing would use, or what does not fit, is refused with its place") {
  const auto problem_of = [](const Json& list, bool given) {
    std::vector<Problem> problems;
    AttentionChoice choice{"softmax", variant_named("softmax").resolve(Json::object()), {}};
    read_layers(list, given, choice, problems);
    if (problems.empty()) {
      ModelOptions options;
      options.depth = 2;
      problems = model_problems(resolved(options, 16), choice, 32);
    }
    REQUIRE(problems.size() == 1);
    return problems.front();
  };
  CHECK(problem_of("softmax", false).path == "model.layers");
  CHECK(problem_of(Json::array(), false).path == "model.layers");
  CHECK(problem_of({"linear", "sotfmax"}, false).path == "model.layers[1].variant");
  CHECK(problem_of({{{"variant", "linear"}, {"chunk", 3}}}, false).path == "model.layers[0].chunk");
  CHECK(problem_of({"linear"}, true).path == "attention.variant");
  CHECK(problem_of({"linear", "softmax", "softmax"}, false).message.find("depth is 2") != std::string::npos);
  CHECK(problem_of({"linear", "nystrom"}, false).path == "model.layers");
}

TEST_CASE("model problems: an option that would change nothing is refused with its name and what it needs") {
  const auto refused = [](const ModelOptions& options, const std::string& name, const std::string& part) {
    CAPTURE(name);
    const auto problem = only_problem(small_options(options));
    CHECK(problem.path == "model." + name);
    CHECK_THAT(problem.message, ContainsSubstring(part));
  };
  refused({.position = "rotary", .rotary_scaling = "linear"}, "rotary_scaling", "above 1, or neither");
  refused({.position = "relative", .relative_distance = 16}, "relative_distance", "16 of relative_buckets 32");
  refused({.norm = "none", .final_norm = true}, "final_norm", "no norm to apply");
  refused({.ffn_dim = 50, .ffn_multiple = 3}, "ffn_multiple", "50 is not 3 times model_dim 12");
  CHECK(model_problems(small_options({.norm = "none", .norm_placement = "parallel"}), {}, 8).empty());
  CHECK(model_problems(small_options({.norm = "none", .qk_norm = "rms_norm", .norm_epsilon = 1e-6}), {}, 8).empty());
  const auto owning = only_problem(small_options({.qk_norm = "rms_norm"}),
                                   {.variant = "latent", .options = variant_named("latent").resolve(Json::object())});
  CHECK(owning.path == "model.qk_norm");
}

TEST_CASE("model problems: a bias on the logits is refused where a variant has none, by names that have") {
  for (const std::string position : {"alibi", "relative"}) {
    const auto options = small_options({.position = position});
    for (const std::string able : {"softmax", "sigmoid"})
      CHECK(model_problems(options, {able, variant_named(able).resolve(Json::object())}, 8).empty());
    const auto problem = only_problem(options, {"linear", variant_named("linear").resolve(Json::object())});
    CHECK(problem.path == "model.position");
    CHECK_THAT(problem.message, ContainsSubstring(position) && ContainsSubstring("softmax"));
  }
}

TEST_CASE("model problems: the turned share of a head must be an even number") {
  CHECK(model_problems(small_options({.position = "rotary", .rotary_share = 0.5}), {}, 8).empty());  // 2 of 4
  const auto odd = only_problem(small_options({.position = "rotary", .rotary_share = 0.75}));        // 3 of 4
  CHECK(odd.path == "model.position");
  CHECK_THAT(odd.message, ContainsSubstring("0.75 of 4 numbers is 3") && ContainsSubstring("take 0.5"));
  const auto ntk =
      small_options({.position = "rotary", .rotary_share = 0.5, .rotary_scaling = "ntk", .rotary_factor = 2});
  CHECK_THAT(only_problem(ntk).message, ContainsSubstring("at least 4"));
}

TEST_CASE("model problems: muP is refused for variants that own a matrix which grows with the head width") {
  const auto problem_with = [](const std::string& name, const Json& options = Json::object()) {
    const auto& variant = variant_named(name);
    const auto mup = resolved({.model_dim = 32, .num_heads = 2, .position = "none", .mup_base_dim = 8}, 11);
    return model_problems(mup, {name, variant.resolve(options)}, 64);
  };
  for (const auto* name : {"hedgehog", "compressive", "memory_compressed", "native_sparse"}) {
    CAPTURE(name);
    const auto problems = problem_with(name);
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].path == "model.mup_base_dim");
    CHECK_THAT(problems[0].message, ContainsSubstring("a matrix of its own"));
  }
  for (const auto* name : {"softmax", "linear", "linformer", "infini", "forgetting"}) {
    CAPTURE(name);
    CHECK(problem_with(name).empty());
  }
}

TEST_CASE("model problems: an option off its default that its condition makes idle is refused of C++ callers too") {
  const auto refused = [](const ModelOptions& options, const std::string& name) {
    const auto problem = only_problem(small_options(options));
    CHECK(problem.path == "model." + name);
    CHECK_THAT(problem.message, ContainsSubstring("has an effect only with"));
  };
  refused({.rotary_base = 500}, "rotary_base");
  refused({.relative_buckets = 8}, "relative_buckets");
  refused({.layer_scale = 0.5}, "layer_scale");
  refused({.mup_base_heads = 2}, "mup_base_heads");
  refused({.position = "rotary", .rotary_scaling = "ntk", .rotary_factor = 2, .rotary_trained_context = 9},
          "rotary_trained_context");
}

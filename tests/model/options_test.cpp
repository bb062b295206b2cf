#include "model/options.h"

#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "model/small_model.h"

using namespace attnscale;

TEST_CASE("model options: what is left out is derived") {
  const auto gelu = resolved({.model_dim = 60, .num_heads = 6}, 65);
  CHECK(gelu.num_kv_heads == 6);
  CHECK(gelu.vocab_size == 65);
  CHECK(gelu.ffn_dim == 240);
  // 8/3 x 60 = 160, a multiple of 8; 8/3 x 64 = 170.67, the next multiple of 8 is 176.
  CHECK(resolved({.model_dim = 60, .feed_forward = "swiglu"}, 65).ffn_dim == 160);
  CHECK(resolved({.model_dim = 64, .feed_forward = "swiglu"}, 65).ffn_dim == 176);
  CHECK(resolved({.model_dim = 60, .feed_forward = "reglu"}, 65).ffn_dim == 160);
  CHECK(resolved({.model_dim = 60, .ffn_multiple = 2.51}, 65).ffn_dim == 151);  // 150.6
  CHECK(gelu.embedding_dim == 60);
  CHECK(gelu.causal == true);
  const auto masked = resolved({.head = "masked_token"}, 65);
  CHECK(masked.vocab_size == 66);  // and the mask
  CHECK(masked.causal == false);
  CHECK(resolved({.head = "classify"}, 65).causal == false);
  CHECK(gelu.final_norm == true);
  CHECK(resolved({.norm_placement = "after"}, 65).final_norm == false);
  CHECK(resolved({.norm = "none"}, 65).final_norm == false);
  CHECK(gelu.initialisation == "gpt2");
  CHECK(resolved({.norm_placement = "deep_norm"}, 65).initialisation == "deep_norm");
  CHECK(gelu.embedding_scale == false);
  CHECK(resolved({.position = "sinusoidal"}, 65).embedding_scale == true);
  CHECK(resolved({.dropout = 0.2}, 65).embedding_dropout == 0.2);
}

TEST_CASE("model options: what is given stays") {
  const auto given = resolved({.num_heads = 4, .num_kv_heads = 2, .vocab_size = 100, .ffn_dim = 7}, 65);
  CHECK(given.num_kv_heads == 2);
  CHECK(given.vocab_size == 100);
  CHECK(given.ffn_dim == 7);
}

TEST_CASE("model options: the base's head width is its own, and a base that changes nothing is dropped") {
  const auto wider = resolved({.model_dim = 48, .num_heads = 6, .mup_base_dim = 16}, 9);
  CHECK(wider.mup_base_heads == 6);
  CHECK(head_width_multiple(wider) == 3);
  const auto more = resolved({.model_dim = 48, .num_heads = 6, .mup_base_dim = 16, .mup_base_heads = 2}, 9);
  CHECK(head_width_multiple(more) == 1);
  CHECK(width_multiple(more) == 3);
  const auto base = resolved({.model_dim = 48, .num_heads = 6, .mup_base_dim = 48, .mup_base_heads = 6}, 9);
  CHECK_FALSE((base.mup_base_dim || base.mup_base_heads));
  // As wide, with narrower heads than the base: not the same model.
  const auto narrower = resolved({.model_dim = 48, .num_heads = 6, .mup_base_dim = 48, .mup_base_heads = 3}, 9);
  CHECK(narrower.mup_base_dim == 48);
  CHECK(head_width_multiple(narrower) == 0.5);
}

TEST_CASE("model options: every option survives JSON, and resolving twice changes nothing") {
  const ModelOptions odd{.depth = 3,
                         .model_dim = 48,
                         .num_heads = 6,
                         .num_kv_heads = 3,
                         .vocab_size = 17,
                         .causal = true,
                         .ffn_dim = 50,
                         .ffn_multiple = 1.5,
                         .position = "rotary",
                         .norm = "rms_norm",
                         .norm_placement = "both",
                         .final_norm = false,
                         .qk_norm = "rms_norm",
                         .residual = "layer_scale",
                         .layer_scale = 0.1,
                         .stochastic_depth = 0.3,
                         .feed_forward = "swiglu",
                         .experts = 6,
                         .experts_per_token = 3,
                         .balance_loss = 0.5,
                         .router_z_loss = 0.25,
                         .bias = false,
                         .tie_embeddings = false,
                         .embedding_dim = 24,
                         .embedding_scale = true,
                         .embedding_norm = true,
                         .initialisation = "small",
                         .embedding_std = 1.5,
                         .mup_base_dim = 16,
                         .mup_base_heads = 2,
                         .dropout = 0.25,
                         .embedding_dropout = 0.5,
                         .norm_epsilon = 1e-6,
                         .rotary_base = 500,
                         .rotary_share = 0.5,
                         .rotary_scaling = "yarn",
                         .rotary_factor = 3,
                         .rotary_trained_context = 77};
  auto other = odd;  // what cannot act beside these
  other.head = "masked_token";
  other.mask_probability = 0.2;
  other.position = "relative";
  other.relative_buckets = 8;
  other.relative_distance = 99;
  other.norm = "dynamic_tanh";
  other.dynamic_tanh_alpha = 0.7;
  auto third = odd;
  third.head = "classify";
  third.pooling = "last";
  third.causal = true;
  auto fourth = odd;
  fourth.head = "encoder_decoder";
  fourth.input_length = 5;
  fourth.encoder_depth = 7;
  auto fifth = odd;
  fifth.mup_base_dim.reset();
  fifth.mup_base_heads.reset();
  fifth.logit_scale = "inverse";
  std::set<std::string> written;
  for (const auto& options : {odd, other, third, fourth, fifth}) {
    const auto json = write_options(options);
    for (const auto& [name, value] : json.items()) written.insert(name);
    ModelOptions read;
    std::vector<Problem> problems;
    read_options(json, "model", read, problems);
    CHECK(problems.empty());
    CHECK(write_options(read) == json);
    CHECK(write_options(resolved(read, 99)) == json);
  }
  CHECK(written.size() == ModelOptions::fields().size());
}

TEST_CASE("model options: one that has no effect beside the others is refused, even at its default") {
  const auto refused = [](const Json& given, const std::string& name, const std::string& condition) {
    ModelOptions read;
    std::vector<Problem> problems;
    read_options(given, "model", read, problems);
    CAPTURE(given.dump());
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].path == "model." + name);
    CHECK_THAT(problems[0].message, Catch::Matchers::ContainsSubstring("only with " + condition));
  };
  refused({{"rotary_base", 10000}}, "rotary_base", "position rotary");
  refused({{"rotary_share", 0.5}}, "rotary_share", "position rotary");
  refused({{"rotary_scaling", "linear"}}, "rotary_scaling", "position rotary");
  refused({{"position", "rotary"}, {"rotary_factor", 2}}, "rotary_factor", "position rotary and a rotary_scaling");
  refused({{"position", "rotary"}, {"rotary_scaling", "ntk"}, {"rotary_factor", 2}, {"rotary_trained_context", 9}},
          "rotary_trained_context", "position rotary and rotary_scaling yarn");
  refused({{"mup_base_heads", 2}}, "mup_base_heads", "mup_base_dim");
  refused({{"mask_probability", 0.15}}, "mask_probability", "head masked_token");
  refused({{"experts_per_token", 1}}, "experts_per_token", "experts above 1");
  refused({{"balance_loss", 0.01}}, "balance_loss", "experts above 1");
  refused({{"router_z_loss", 0}}, "router_z_loss", "experts above 1");
  refused({{"input_length", 5}}, "input_length", "head encoder_decoder");
  refused({{"encoder_depth", 5}}, "encoder_depth", "head encoder_decoder");
  refused({{"pooling", "mean"}}, "pooling", "head classify");
  refused({{"relative_buckets", 8}}, "relative_buckets", "position relative");
  refused({{"relative_distance", 64}}, "relative_distance", "position relative");
  refused({{"norm", "dynamic_tanh"}, {"norm_epsilon", 1e-6}}, "norm_epsilon", "norm or qk_norm");
  refused({{"dynamic_tanh_alpha", 1}}, "dynamic_tanh_alpha", "norm dynamic_tanh");
  refused({{"mup_base_dim", 32}, {"logit_scale", "none"}}, "logit_scale", "no mup_base_dim");
  refused({{"layer_scale", 1}}, "layer_scale", "residual layer_scale");
  refused({{"norm", "none"}, {"norm_placement", "after"}}, "norm_placement", "a norm");
  refused({{"norm", "none"}, {"embedding_norm", true}}, "embedding_norm", "a norm");
  const auto whole = write_options(ModelOptions{});
  CHECK_FALSE(whole.contains("rotary_base"));
  CHECK(whole.contains("norm_epsilon"));
}

TEST_CASE("model options: each bound is enforced") {
  const Json wrong = {{"depth", 0},
                      {"model_dim", 0},
                      {"num_heads", 0},
                      {"num_kv_heads", 0},
                      {"vocab_size", 1},
                      {"head", "class"},
                      {"mask_probability", 0},
                      {"pooling", "max"},
                      {"causal", "no"},
                      {"input_length", 0},
                      {"encoder_depth", 0},
                      {"ffn_dim", 0},
                      {"ffn_multiple", 0},
                      {"position", "rotory"},
                      {"norm", "batch_norm"},
                      {"norm_placement", "behind"},
                      {"final_norm", 1},
                      {"qk_norm", "dynamic_tanh"},
                      {"logit_scale", "sqrt"},
                      {"dynamic_tanh_alpha", 0},
                      {"residual", "none"},
                      {"layer_scale", 0},
                      {"stochastic_depth", 1.0},
                      {"feed_forward", "relu6"},
                      {"experts", 0},
                      {"experts_per_token", 0},
                      {"balance_loss", -1},
                      {"router_z_loss", -1},
                      {"embedding_dim", 0},
                      {"embedding_scale", 2},
                      {"embedding_norm", "layer_norm"},
                      {"initialisation", "zero"},
                      {"embedding_std", 0},
                      {"mup_base_dim", 0},
                      {"mup_base_heads", 0},
                      {"embedding_dropout", 1.0},
                      {"bias", 1},
                      {"tie_embeddings", "yes"},
                      {"dropout", 1.0},
                      {"norm_epsilon", 0},
                      {"rotary_base", 1},
                      {"rotary_share", 0},
                      {"rotary_scaling", "cubic"},
                      {"rotary_factor", 0.5},
                      {"rotary_trained_context", 0},
                      {"relative_buckets", 1},
                      {"relative_distance", 1}};
  CHECK(wrong.size() == ModelOptions::fields().size());
  for (const auto& [key, value] : wrong.items()) {
    CAPTURE(key);
    ModelOptions read;
    std::vector<Problem> problems;
    read_options(Json{{key, value}}, "model", read, problems);
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].path == "model." + key);
  }
}

TEST_CASE("model options: every choice stands in an architecture that the tests build") {
  for (const auto& field : ModelOptions::fields())
    for (const auto& choice : field.choices) {
      CAPTURE(field.name, choice);
      bool found = false;
      for (const auto& architecture : architectures()) found |= field.get(&architecture.options) == choice;
      CHECK(found);
    }
}

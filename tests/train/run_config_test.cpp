#include "train/run_config.h"

#include <algorithm>
#include <set>

#include <ATen/Context.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "scratch_folder.h"
#include "train/config_resolver.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

Json small() {
  return Json::parse(R"({
    "model": {"depth": 1, "model_dim": 16, "num_heads": 2},
    "attention": {"variant": "softmax"},
    "data": {"source": "zipf_memory", "context": 8, "num_keys": 10, "num_labels": 4},
    "train": {"steps": 20, "batch_size": 2, "warmup_steps": 5}})");
}

RunConfig read(const Json& json) {
  std::vector<Problem> problems;
  auto config = RunConfig::from_json(json, problems);
  for (const auto& problem : problems) UNSCOPED_INFO(problem.path << ": " << problem.message);
  REQUIRE(problems.empty());
  return config;
}

std::vector<Problem> problems_of(const Json& json) {
  std::vector<Problem> problems;
  RunConfig::from_json(json, problems);
  return problems;
}

/// Whether some problem stands at this path and says this.
bool told(const Json& json, const std::string& path, const std::string& words) {
  const auto problems = problems_of(json);
  for (const auto& problem : problems) UNSCOPED_INFO(problem.path << ": " << problem.message);
  return std::any_of(problems.begin(), problems.end(), [&](const Problem& problem) {
    return problem.path == path && problem.message.find(words) != std::string::npos;
  });
}

Json with(const std::string& path, Json value) {
  auto json = small();
  set_path(json, path, std::move(value));
  return json;
}

}  // namespace

TEST_CASE("run_config: every default is written out, and reading that back gives the same") {
  const auto config = read(small());
  CHECK(config.model.vocab_size == 14);  // 10 keys, 4 labels
  CHECK(config.model.ffn_dim == 64);
  const auto json = config.to_json();
  // Left out they are nothing, or another option says the same.
  const std::set<std::string> left_out = {"initial_batch_size", "initial_context", "warmup_tokens", "embedding_rate",
                                          "vector_rate"};
  for (const auto& field : TrainOptions::fields()) {
    INFO(field.name);
    const bool acts = !field.in_effect || field.in_effect(&config.train);
    CHECK(json["train"].contains(field.name) == (acts && !left_out.contains(field.name)));
  }
  CHECK(json["data"]["noise"] == 0.1);
  CHECK(read(json).to_json() == json);
  CHECK(read(Json::object()).data.source == "zipf_memory");
}

TEST_CASE("run_config: the id is the same for the same run and another for any other") {
  const auto id = read(small()).id();
  CHECK(id.size() == 16);
  CHECK(read(read(small()).to_json()).id() == id);
  CHECK(read(with("train.learning_rate", 0.003)).id() == id);  // the default, said aloud
  CHECK(read(with("train.learning_rate", 0.0030000000000000005)).id() != id);
  CHECK(read(with("train.seed", 1)).id() != id);
  CHECK(read(with("data.num_keys", 11)).id() != id);
  CHECK(read(with("model.bias", false)).id() != id);
}

TEST_CASE("run_config: all problems come together, each at its path") {
  auto json = small();
  json["modle"] = Json::object();
  json["model"]["dept"] = 3;
  json["attention"]["variant"] = "softmx";
  json["data"]["contxt"] = 3;
  json["train"]["steps"] = 0.9;
  json["train"]["dtype"] = "float8";
  CHECK(problems_of(json).size() == 6);
  CHECK(told(json, "modle", "did you mean \"model\"?"));
  CHECK(told(json, "model.dept", "did you mean \"depth\"?"));
  CHECK(told(json, "attention.variant", "softmax"));
  CHECK(told(json, "data.contxt", "did you mean \"context\"?"));
  CHECK(told(json, "train.steps", "0.9"));
  CHECK(told(json, "train.dtype", "one of"));
}

TEST_CASE("run_config: what does not fit together is refused with numbers") {
  CHECK(told(with("train.warmup_steps", 21), "train.warmup_steps", "21 steps in a run of 20"));
  CHECK(problems_of(with("train.warmup_steps", 20)).empty());
  CHECK(told(with("train.momentum", 0.9), "train.momentum", "only with optimizer sgd or muon"));
  CHECK(told(with("model.vocab_size", 13), "model.vocab_size", "at least 14"));
  CHECK(problems_of(with("model.vocab_size", 15)).empty());
  CHECK(told(with("model.num_heads", 3), "model.num_heads", "does not divide"));
  CHECK(told(with("data.source", "zipf_memori"), "data.source", "did you mean \"zipf_memory\"?"));
  CHECK(told(with("data.source", 3), "data.source", "the number 3"));
  CHECK(told(with("data.context", 0), "data.context", "from 1"));
  CHECK(told(with("data", Json::array()), "data", "a list"));
  CHECK(told(
      with("train.batch_size", 1 << 20).patch(Json::parse(R"([{"op":"add","path":"/data/context","value":1024}])")),
      "train.batch_size", "take at most 16384"));
  CHECK(told(Json(3), "", "the number 3"));
}

TEST_CASE("run_config: muP is refused where the optimiser's step depends on the gradient's size") {
  auto json = small();
  json["model"]["mup_base_dim"] = 8;
  CHECK(problems_of(json).empty());
  json["train"]["optimizer"] = "sgd";
  CHECK(told(json, "model.mup_base_dim", "adamw, adam and lion, not for sgd"));
  json["train"]["optimizer"] = "adam";
  CHECK(problems_of(json).empty());
  json["train"]["weight_decay"] = 0.1;
  CHECK(told(json, "model.mup_base_dim", "weight_decay 0.1 goes through the moments"));
  json["train"]["optimizer"] = "adamw";
  CHECK(problems_of(json).empty());
}

TEST_CASE("run_config: what is one model has one id, however it was said") {
  const auto id = [](const Json& changes) {
    auto json = small();
    json["model"].update(changes);
    return read(json).id();
  };
  CHECK(id({{"ffn_multiple", 4}}) == id(Json::object()));
  CHECK(id({{"ffn_multiple", 4}, {"ffn_dim", 64}}) == id(Json::object()));
  CHECK(id({{"ffn_multiple", 3}}) == id({{"ffn_dim", 48}}));
  CHECK(id({{"ffn_multiple", 3}}) != id(Json::object()));
  CHECK(told(with("model", {{"model_dim", 16}, {"num_heads", 2}, {"ffn_multiple", 3}, {"ffn_dim", 64}}),
             "model.ffn_multiple", "leave one"));
  const auto schooled = [](const Json& changes) {
    auto json = small();
    json["train"].erase("warmup_steps");
    json["train"].update(changes);
    return read(json).id();
  };
  const int64_t in_a_step = 2 * read(small()).data.context;
  CHECK(schooled({{"warmup_tokens", 5 * in_a_step}}) == schooled({{"warmup_steps", 5}}));
  CHECK(schooled({{"warmup_tokens", 5 * in_a_step + 1}}) == schooled({{"warmup_steps", 6}}));
  CHECK(told(with("train", {{"steps", 20}, {"batch_size", 2}, {"warmup_steps", 5}, {"warmup_tokens", 6 * in_a_step}}),
             "train.warmup_tokens", "leave one"));
  CHECK(id({{"mup_base_dim", 16}}) == id(Json::object()));
  CHECK(id({{"mup_base_dim", 8}}) == id({{"mup_base_dim", 8}, {"mup_base_heads", 2}}));
  CHECK(id({{"mup_base_dim", 8}}) != id({{"mup_base_dim", 8}, {"mup_base_heads", 1}}));
  const Json yarn = {{"position", "rotary"}, {"rotary_scaling", "yarn"}, {"rotary_factor", 4}};
  const auto trained = [&](int64_t positions) {
    auto changes = yarn;
    changes["rotary_trained_context"] = positions;
    return id(changes);
  };
  CHECK(id(yarn) == trained(2));  // of a context of 8
  CHECK(id(yarn) != trained(3));
}

TEST_CASE("run_config: a model larger than memory is refused before anything is allocated") {
  auto json = small();
  json["model"] = {{"depth", 1024}, {"model_dim", 65536}, {"num_heads", 2}};
  CHECK(told(json, "model", "GB"));
  json["data"]["num_keys"] = 1 << 20;
  json["data"]["context"] = 1 << 16;
  json["train"]["batch_size"] = 256;
  CHECK(told(json, "model", "this machine has"));
}

TEST_CASE("run_config: a configuration file's schema is taken, another one refused") {
  CHECK(problems_of(with("schema", "attnscale.config/1")).empty());
  CHECK(told(with("schema", "attnscale.config/9"), "schema", "attnscale.config/1"));
}

TEST_CASE("run_config: the id follows from what a text holds and how it is cut, not from where it lies") {
  const ScratchFolder scratch;
  std::string text;
  for (int i = 0; i < 3000; ++i) text += static_cast<char>('a' + i % 7);
  for (const auto* name : {"a.txt", "b.txt"}) write_file_atomically(scratch / name, text);
  write_file_atomically(scratch / "c.txt", text + "a");
  const auto config = [&](const std::string& name, const std::string& tokens) {
    auto json = small();
    json["data"] = {{"source", "text"}, {"path", (scratch / name).string()}, {"tokens", tokens}, {"context", 8}};
    json["train"]["eval_tokens"] = 128;
    return read(json);
  };
  CHECK(config("a.txt", "characters").id() == config("b.txt", "characters").id());
  CHECK(config("a.txt", "characters").id() != config("c.txt", "characters").id());
  CHECK(config("a.txt", "characters").id() != config("a.txt", "bytes").id());
}

TEST_CASE("run_config: more tokens to evaluate than a text has to validate are refused with how many it has") {
  const ScratchFolder scratch;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>('a' + i % 7);
  write_file_atomically(scratch / "a.txt", text);  // 100 to validate: 12 windows of 8
  auto json = small();
  json["data"] = {{"source", "text"}, {"path", (scratch / "a.txt").string()}, {"context", 8}};
  json["train"]["eval_tokens"] = 97;
  CHECK(told(json, "train.eval_tokens", "97 tokens are more than the 12 windows of 8 tokens"));
  CHECK(told(json, "train.eval_tokens", "take at most 96"));
  json["train"]["eval_tokens"] = 96;
  CHECK(problems_of(json).empty());
  write_file_atomically(scratch / "one.txt", std::string(1000, 'a'));
  json["data"]["path"] = (scratch / "one.txt").string();
  CHECK(told(json, "data.path", "one distinct character"));
}

TEST_CASE("run_config: the device is not part of the id, and cuda is refused where there is none") {
  CHECK(told(with("train.device", "gpu"), "train.device", "one of cpu, cuda"));
  if (at::hasCUDA()) CHECK(read(with("train.device", "cuda")).id() == read(small()).id());
  else CHECK(told(with("train.device", "cuda"), "train.device", "no CUDA device can be used here"));
  CHECK(read(with("train.device", "cpu")).id() == read(small()).id());
}

TEST_CASE("run_config: a CUDA graph is refused for models whose steps ask the host, with the option to leave out") {
  auto json = with("train.device", "cuda");
  json["train"]["cuda_graph"] = true;
  json["model"]["experts"] = 2;
  CHECK(told(json, "model.experts", "leave train.cuda_graph out"));
  json["model"].erase("experts");
  json["model"]["stochastic_depth"] = 0.1;
  CHECK(told(json, "model.stochastic_depth", "leave train.cuda_graph out"));
  json["train"]["optimizer"] = "lion";
  CHECK(told(json, "train.cuda_graph", "of adamw and adam, not of lion"));
  json["train"]["device"] = "cpu";
  CHECK(told(json, "train.cuda_graph", "only with device cuda"));
}

TEST_CASE("run_config: equal data options share one open source") {
  const auto a = read(small()), b = read(with("train.seed", 3)), c = read(with("data.num_labels", 5));
  CHECK(a.open_source() == b.open_source());
  CHECK(a.open_source() != c.open_source());
}

TEST_CASE("run_config: a head that the source does not serve is refused with those that it does") {
  const auto problem = [](const char* source, const char* head) {
    const auto problems = problems_of({{"model", {{"head", head}}}, {"data", {{"source", source}, {"context", 16}}}});
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].path == "model.head");
    return problems[0].message;
  };
  CHECK(problem("compression", "next_token") ==
        "\"next_token\" cannot be asked of compression, which serves reconstruct");
  CHECK(problem("copy", "reconstruct").find("copy, which serves next_token") != std::string::npos);
  CHECK(problems_of({{"model", {{"head", "reconstruct"}}}, {"data", {{"source", "compression"}}}}).empty());
}

TEST_CASE("run_config: what cannot be asked without causality, or with it, is refused") {
  const auto only = [](const Json& model, const Json& attention, const Json& data) {
    const auto problems = problems_of({{"model", model}, {"attention", attention}, {"data", data}});
    REQUIRE(problems.size() == 1);
    return problems[0].path + ": " + problems[0].message;
  };
  const Json text = {{"source", "dirichlet"}}, task = {{"source", "majority"}}, softmax = {{"variant", "softmax"}};
  CHECK_THAT(only({{"causal", false}}, softmax, text), ContainsSubstring("model.causal: false would show"));
  CHECK_THAT(only({{"head", "masked_token"}}, {{"variant", "delta"}}, text), ContainsSubstring("delta is causal only"));
  CHECK_THAT(only({{"head", "classify"}, {"pooling", "first"}, {"causal", true}}, softmax, task),
             ContainsSubstring("model.pooling: the first position"));
  CHECK_THAT(only({{"head", "masked_token"}, {"position", "relative"}, {"relative_buckets", 5}}, softmax, text),
             ContainsSubstring("model.relative_buckets: received 5"));
  CHECK_THAT(only({{"head", "masked_token"}, {"vocab_size", 8}}, softmax, text),
             ContainsSubstring("8 tokens of dirichlet and the mask; leave it out or take at least 9"));
  CHECK(problems_of({{"model", {{"head", "classify"}}}, {"attention", {{"variant", "nystrom"}}}, {"data", task}})
            .empty());
}

TEST_CASE("run_config: an encoder reads what the source says, and needs variants for two sequences") {
  const auto with = [](const Json& model, const char* variant, const Json& data) {
    Json all = {{"head", "encoder_decoder"}};
    all.update(model);
    return Json{{"model", all}, {"attention", {{"variant", variant}}}, {"data", data}};
  };
  const auto length = [&](const Json& data) {
    std::vector<Problem> problems;
    const auto config = RunConfig::from_json(with(Json::object(), "softmax", data), problems);
    REQUIRE(problems.empty());
    return *config.model.input_length;
  };
  CHECK(length({{"source", "copy"}, {"context", 20}}) == 11);
  CHECK(length({{"source", "copy"}, {"context", 21}}) == 12);
  CHECK(length({{"source", "selective_copy"}, {"num_symbols", 4}, {"context", 21}}) == 18);
  CHECK(length({{"source", "dirichlet"}, {"context", 21}}) == 10);
  const auto only = [&](const Json& model, const char* variant) {
    const auto problems = problems_of(with(model, variant, {{"source", "copy"}, {"context", 20}}));
    REQUIRE(problems.size() == 1);
    return problems[0].path + ": " + problems[0].message;
  };
  CHECK_THAT(only({{"input_length", 12}}, "softmax"), ContainsSubstring("answers of copy, which start after 11"));
  CHECK_THAT(only(Json::object(), "sliding_window"), ContainsSubstring("no form for queries of another sequence"));
  CHECK_THAT(only({{"norm_placement", "parallel"}}, "softmax"), ContainsSubstring("no place for cross-attention"));
  CHECK_THAT(only({{"initialisation", "deep_norm"}}, "softmax"), ContainsSubstring("other constants for an encoder"));
  CHECK_THAT(only({{"causal", false}}, "softmax"), ContainsSubstring("model.causal: false would show"));
}

TEST_CASE("config_resolver: gives what reading, hashing and costing each config by itself gives, problems too") {
  ConfigResolver resolver;
  auto wide = with("model.model_dim", 32);
  wide["train"]["accumulate"] = 2;
  auto checkpointing = with("train.activation_checkpointing", true);
  auto ramped = with("train.initial_batch_size", 1);
  ramped["train"]["seed"] = 7;
  auto windowed = with("attention", Json{{"variant", "sliding_window"}, {"window", 4}});
  auto hybrid = with("model.layers", Json{"softmax", "linear"});
  hybrid.erase("attention");
  hybrid["model"]["depth"] = 2;
  for (int pass = 0; pass < 2; ++pass)  // unknown at first, then known
    for (const auto& json : {small(), with("train.seed", 3), wide, checkpointing, windowed, hybrid, Json::object(),
                             with("data.noise", 0.2), with("train.device", "cpu"), with("train.dtype", "float64"),
                             with("train.seed", int64_t{1} << 62), with("train.optimizer", "lion"), ramped}) {
      INFO(json.dump());
      std::vector<Problem> problems;
      const auto run = resolver.resolve(json, problems);
      for (const auto& problem : problems) UNSCOPED_INFO(problem.path << ": " << problem.message);
      REQUIRE(run);
      const auto alone = read(json);
      CHECK(run->config().to_json() == alone.to_json());
      CHECK(run->id == alone.id());
      const auto cost = cost_of(alone);
      CHECK(run->cost.parameters.to_json() == cost.parameters.to_json());
      CHECK(run->cost.flops_per_token.to_json() == cost.flops_per_token.to_json());
      CHECK(run->cost.training_bytes == cost.training_bytes);
      CHECK(run->cost.state_bytes == cost.state_bytes);
      const auto work = work_of(alone, cost, alone.train.steps);
      CHECK(run->work.tokens == work.tokens);
      CHECK(run->work.flops.to_json() == work.flops.to_json());
      CHECK(run->peak_bytes == training_bytes(alone.train, cost));
    }
  auto graph_of_experts = with("train.device", "cuda");
  graph_of_experts["train"]["cuda_graph"] = true;
  graph_of_experts["model"]["experts"] = 2;
  auto unknown_sections = small();
  unknown_sections["modle"] = 1;
  unknown_sections["train"]["stepz"] = 1;
  for (const auto& json :
       {unknown_sections, Json(3), with("model.num_heads", 3), with("train.warmup_steps", 30),
        with("model.vocab_size", 3), with("attention.variant", "softmx"), with("model.model_dim", 1 << 16),
        with("data.context", 0), with("train.optimizer", "sgdd"), with("train.seed", -1), with("train.seed", nullptr),
        with("train.seed", 0.5), with("train.seed", uint64_t{1} << 63), with("train", 3), with("train.eval_context", 1),
        graph_of_experts}) {
    INFO(json.dump());
    std::vector<Problem> problems;
    CHECK_FALSE(resolver.resolve(json, problems));
    const auto alone = problems_of(json);
    REQUIRE(problems.size() == alone.size());
    for (size_t i = 0; i < alone.size(); ++i) {
      CHECK(problems[i].path == alone[i].path);
      CHECK(problems[i].message == alone[i].message);
    }
  }
}

TEST_CASE("config_resolver: what it keeps is not mistaken for another config that is spelled alike") {
  ConfigResolver resolver;
  std::vector<Problem> problems;
  auto two = small(), one = small();
  two["train"] = {{"steps", 4}, {"batch_size", 8}};
  REQUIRE(resolver.resolve(two, problems));
  // The bytes between one option's name and the next one's value.
  for (const auto& between : {std::string("\x04"), std::string("\x04\x0a"), std::string(" \x04")}) {
    one["train"] = Json::object();
    one["train"]["steps" + between + "batch_size"] = 8;
    CHECK_FALSE(resolver.resolve(one, problems));
  }
  // Integers and floats of one value are two things: steps 4.0 is refused.
  two["train"]["steps"] = 4.0;
  CHECK_FALSE(resolver.resolve(two, problems));
}

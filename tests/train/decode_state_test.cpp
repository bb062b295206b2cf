#include "train/decode_state.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "attention/registry.h"
#include "core/error.h"
#include "scratch_folder.h"
#include "train/safetensors.h"
#include "train/trainer.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t short_context = 24;

RunConfig copy_config(const std::string& variant) {
  std::vector<Problem> problems;
  auto config =
      RunConfig::from_json({{"model", {{"depth", 2}, {"model_dim", 16}, {"num_heads", 2}}},
                            {"attention", {{"variant", variant}}},
                            {"data", {{"source", "copy"}, {"alphabet", 6}, {"context", short_context}}},
                            {"train", {{"steps", 2}, {"warmup_steps", 1}, {"batch_size", 2}, {"eval_tokens", 64}}}},
                           problems);
  REQUIRE(problems.empty());
  return config;
}

Generated go_on(const TrainedModel& trained, Continuation& carried, const std::vector<int64_t>& prompt, int64_t count,
                double temperature = 0) {
  return generate(*trained.model, trained.config.attention, short_context, prompt,
                  {.count = count, .temperature = temperature, .seed = 3}, &carried);
}

}  // namespace

TEST_CASE("decode state: a text that was put aside in a file goes on as if it never had been") {
  for (const std::string variant :
       {"softmax", "sliding_window", "linear", "mamba2", "native_sparse", "log_linear", "segment_recurrent"}) {
    INFO(variant);
    const ScratchFolder folder;
    train_run(copy_config(variant), {.folder = folder / "run"});
    const auto trained = load_trained_model(folder / "run");
    Continuation unbroken{trained.model->new_state(1)};
    const auto all = go_on(trained, unbroken, {1, 4, 2}, 12).tokens;

    Continuation first{trained.model->new_state(1)};
    const auto begin = go_on(trained, first, {1, 4, 2}, 5).tokens;
    write_continuation(folder / "state", first, trained);
    auto second = read_continuation(folder / "state", trained);
    CHECK(second.state.length == 3 + 4);  // the last token is still to be read
    CHECK(second.unread == std::vector{begin.back()});
    const auto end = go_on(trained, second, {}, 7).tokens;
    auto joined = begin;
    joined.insert(joined.end(), end.begin(), end.end());
    CHECK(joined == all);
    CHECK(second.state.length == unbroken.state.length);
    for (size_t layer = 0; layer < 2; ++layer)
      for (const auto& [name, tensor] : unbroken.state.layers[layer].tensors)
        CHECK(at::equal(tensor, second.state.layers[layer].tensors.at(name)));
  }
}

TEST_CASE("decode state: copies of one state go on apart, though the cache has room behind it") {
  const ScratchFolder folder;
  train_run(copy_config("softmax"), {.folder = folder / "run"});
  const auto trained = load_trained_model(folder / "run");
  const torch::NoGradGuard no_gradients;
  const auto tokens = [](std::vector<int64_t> list) { return torch::tensor(list).unsqueeze(0); };
  auto& model = *trained.model;
  auto state = model.new_state(1);
  for (const int64_t token : {1, 2, 3}) model.decode(tokens({token}), state);
  auto copy = state;                                                   // shares the tensors
  const auto key = state.layers[0].tensors.at("key").narrow(2, 1, 1);  // and so does a part of one
  const auto before = key.clone();
  model.decode(tokens({4}), state);
  model.decode(tokens({5}), copy);
  const auto after = [&](ModelState& one) { return model.decode(tokens({6}), one)[0][0]; };
  const auto whole = [&](int64_t fourth) { return model.forward(tokens({1, 2, 3, fourth, 6}))[0][4]; };
  CHECK(at::allclose(after(state), whole(4), 1e-4, 1e-5));
  CHECK(at::allclose(after(copy), whole(5), 1e-4, 1e-5));
  CHECK(at::equal(key, before));
  // Alone again, a state grows where it is: the same memory, token after token.
  const auto* where = state.layers[0].tensors.at("key").const_data_ptr<float>();
  for (int i = 0; i < 5; ++i) model.decode(tokens({1}), state);
  CHECK(state.layers[0].tensors.at("key").const_data_ptr<float>() == where);
  CHECK(state.layers[0].tensors.at("key").size(2) == 10);
}

TEST_CASE("decode state: drawn tokens too are those of a text that never was put aside") {
  const ScratchFolder folder;
  train_run(copy_config("linear"), {.folder = folder / "run"});
  const auto trained = load_trained_model(folder / "run");
  Continuation unbroken{trained.model->new_state(1)}, parts{trained.model->new_state(1)};
  const auto all = go_on(trained, unbroken, {1, 4, 2}, 20, /*temperature=*/1).tokens;
  auto joined = go_on(trained, parts, {1, 4, 2}, 8, 1).tokens;
  for (int part = 0; part < 2; ++part) {
    write_continuation(folder / "state", parts, trained);
    parts = read_continuation(folder / "state", trained);
    const auto more = go_on(trained, parts, {}, 6, 1).tokens;
    joined.insert(joined.end(), more.begin(), more.end());
  }
  CHECK(joined == all);
}

TEST_CASE("decode state: more prompt may follow, within the context") {
  const ScratchFolder folder;
  train_run(copy_config("linear"), {.folder = folder / "run"});
  const auto trained = load_trained_model(folder / "run");
  Continuation carried{trained.model->new_state(1)};
  const auto begin = go_on(trained, carried, {1, 4, 2}, 1).tokens;
  const auto end = go_on(trained, carried, {3, 3}, 2).tokens;
  Continuation whole{trained.model->new_state(1)};
  CHECK(go_on(trained, whole, {1, 4, 2, begin[0], 3, 3}, 2).tokens == end);
  CHECK_THROWS_WITH(go_on(trained, whole, {1}, short_context), ContainsSubstring("ask for at most"));
}

TEST_CASE("decode state: what every variant that decodes has written is read, at several lengths") {
  int64_t tried = 0;
  for (const auto& variant : all_variants()) {
    if (!variant.traits.contains(Trait::incremental)) continue;
    INFO(variant.name);
    TrainedModel model;
    model.config = copy_config(variant.name);
    model.step = 2;
    const auto& config = model.config;
    model.source = config.open_source();
    model.model = std::make_unique<Transformer>(config.model, config.attention, short_context, 1);
    model.model->eval();
    const ScratchFolder folder;
    Continuation carried{model.model->new_state(1)};
    go_on(model, carried, {1}, 1);
    for (int64_t length = 1; length < short_context - 4; length += 4, ++tried) {
      INFO(length);
      write_continuation(folder / "state", carried, model);
      carried = read_continuation(folder / "state", model);
      CHECK(carried.state.length == length);
      go_on(model, carried, {}, 4);
    }
  }
  CHECK(tried >= 100);
}

TEST_CASE("decode state: sizes that do not agree are refused as the file's fault") {
  const ScratchFolder folder;
  train_run(copy_config("softmax"), {.folder = folder / "run"});
  const auto trained = load_trained_model(folder / "run");
  Continuation carried{trained.model->new_state(1)};
  go_on(trained, carried, {1, 2, 3}, 2);  // 4 absorbed
  write_continuation(folder / "state", carried, trained);
  Metadata metadata;
  const auto whole = read_safetensors(folder / "state", &metadata);
  CHECK(metadata["schema"] == "attnscale.decode-state/1");
  const auto damaged = [&](auto change) {
    auto tensors = whole;
    auto header = metadata;
    change(tensors, header);
    write_safetensors(folder / "damaged", tensors, header);
    try {
      auto read = read_continuation(folder / "damaged", trained);
      go_on(trained, read, {}, 1);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const std::string key = "layers.0.key", value = "layers.0.value";  // [1, 2, 4, 8]
  REQUIRE(whole.at(key).sizes() == at::IntArrayRef({1, 2, 4, 8}));
  CHECK_THAT(damaged([](auto&, auto&) {}), ContainsSubstring("accepted"));
  CHECK_THAT(damaged([&](auto& t, auto&) { t[key] = t[key].narrow(1, 0, 1).clone(); }),
             ContainsSubstring("[1, 1, 4, 8], expected float of 4 dimensions, [1, 2, 0, 8]"));
  CHECK_THAT(damaged([&](auto& t, auto&) {
               for (const auto& name : {key, value}) t[name] = t[name].narrow(2, 0, 3).clone();
             }),
             ContainsSubstring("layer 0 holds 384 bytes, expected 512 after 4 tokens"));
  CHECK_THAT(damaged([&](auto& t, auto&) {  // as many bytes, elsewhere
               t[key] = torch::zeros({1, 2, 3, 8});
               t[value] = torch::zeros({1, 2, 5, 8});
             }),
             ContainsSubstring("does not fit the model"));
  CHECK_THAT(damaged([](auto&, auto& header) { header["lengths"] = "[5, 5, 5]"; }),
             ContainsSubstring("after 5 tokens"));
  CHECK_THAT(damaged([](auto&, auto& header) { header["lengths"] = "[4, 4, 3]"; }),
             ContainsSubstring("layer 1 has absorbed 3 tokens, the model 4"));
  CHECK_THAT(damaged([](auto&, auto& header) { header["lengths"] = "[99, 99, 99]"; }),
             ContainsSubstring("the context of 24"));
}

TEST_CASE("decode state: a file of another run, or none, is refused with what was expected") {
  const ScratchFolder folder;
  train_run(copy_config("linear"), {.folder = folder / "run"});
  train_run(copy_config("softmax"), {.folder = folder / "other"});
  const auto trained = load_trained_model(folder / "run"), other = load_trained_model(folder / "other");
  Continuation carried{trained.model->new_state(1)};
  go_on(trained, carried, {1, 2}, 2);
  write_continuation(folder / "state", carried, trained);
  CHECK_THROWS_WITH(read_continuation(folder / "state", other), ContainsSubstring("run is \"" + trained.config.id()));

  Metadata metadata;
  const auto whole = read_safetensors(folder / "state", &metadata);
  const auto damaged = [&](auto change) {
    auto tensors = whole;
    auto header = metadata;
    change(tensors, header);
    write_safetensors(folder / "damaged", tensors, header);
    try {
      read_continuation(folder / "damaged", trained);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const auto first = whole.begin()->first;
  CHECK_THAT(damaged([&](auto& tensors, auto&) { tensors.erase(first); }), ContainsSubstring(first + " is missing"));
  CHECK_THAT(damaged([&](auto& tensors, auto&) { tensors["extra"] = torch::zeros({1}); }),
             ContainsSubstring("tensors"));
  CHECK_THAT(damaged([&](auto& tensors, auto&) { tensors[first] = torch::zeros({3}); }),
             ContainsSubstring("dimensions"));
  CHECK_THAT(damaged([&](auto&, auto& header) { header["unread"] = "[99]"; }), ContainsSubstring("unread token 99"));
  CHECK_THAT(damaged([&](auto&, auto& header) { header["lengths"] = "seven"; }), ContainsSubstring("lengths"));
  CHECK_THAT(damaged([&](auto&, auto& header) { header["lengths"] = "[4]"; }), ContainsSubstring("holds 0 layers"));
}

// Each check of the conformance run is shown to fail: a sound scratch variant passes, and the same
// variant with one fault planted fails exactly the checks that speak of that fault.

#include "attention/conformance.h"

#include <cmath>
#include <set>

#include <ATen/autocast_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <catch2/catch_test_macros.hpp>

#include "attention/masks.h"

// B batch, H heads, G key-value heads, T queries, S keys, D key width, E value width

using namespace attnscale;

namespace {

enum class Fault {
  none,
  sees_one_ahead,        // in the definition: implementation and oracle agree on it
  future_chooses,        // in the definition: the newest key's sign sets a factor, which has no gradient
  window_one_too_wide,   // in the definition
  only_itself,           // in the definition: positions never interact
  ignores_padding,       // in the definition
  blind_row_is_nan,      // rows without visible keys
  chunk_drops_a_key,     // decoding loses the newest key of the cache at each call
  batch_maximum,         // the softmax is stabilised by the maximum over the whole batch
  no_stabiliser,         // exp of the logits as they are
  half_detached,         // half of the score's gradient is lost
  wrong_output,          // one part in a million off the oracle
  flips,                 // every other call is off by a millionth in float32
  computes_in_bfloat16,  // float32 inputs are rounded to bfloat16
  coarse_bfloat16,       // ten per cent off in bfloat16 only
  coarse_when_mixed,     // ten per cent off under autocast only
  unused_parameter,      // registered, in no product
  throws_at_one,         // no forward pass of one position
};

/// Causal attention over the latest `window` keys with a learnt scale per head, as one masked square.
class Scratch : public Attention {
 public:
  struct Options {
    int64_t window = 5;
    static Fields fields() { return {field(&Options::window, "window", "keys seen, self included").at_least(1)}; }
  };

  Scratch(const Options& options, const Geometry& geometry, Fault fault = Fault::none)
      : Attention(geometry), options_(options), fault_(fault) {
    scale_ = register_parameter("scale", torch::ones({geometry.num_heads, 1, 1}));
    if (fault == Fault::unused_parameter) register_parameter("unused", torch::ones({3}));
  }

  Tensor forward(const Inputs& in) override {
    if (fault_ == Fault::throws_at_one && in.query.size(2) == 1) throw ShapeError("scratch: one position");
    return attend(in);
  }

  State new_state(int64_t batch, torch::TensorOptions options) const override {
    const auto& g = geometry_;
    return {.tensors = {{"key", at::empty({batch, g.num_kv_heads, 0, g.head_dim}, options)},
                        {"value", at::empty({batch, g.num_kv_heads, 0, g.value_dim}, options)}}};
  }

  Tensor decode(const Inputs& in, State& state) override {
    for (const auto& [name, fresh] : {std::pair{"key", in.key}, {"value", in.value}}) {
      auto& cache = state.tensors.at(name);
      if (fault_ == Fault::chunk_drops_a_key && cache.size(2) > 0) cache.select(2, -1).zero_();
      cache = at::cat({cache, fresh}, 2);
    }
    state.length += in.query.size(2);
    return attend({.query = in.query, .key = state.tensors.at("key"), .value = state.tensors.at("value")});
  }

  Tensor oracle(const Inputs& in) const override {
    const auto scores = scaled_scores(in.query.to(torch::kFloat64), in.key.to(torch::kFloat64));
    const auto visible = mask(in);
    const auto weights = scores.masked_fill(~visible, -INFINITY).softmax(-1).masked_fill(~visible, 0);
    return at::matmul(weights.masked_fill(~visible.any(-1, true), 0), repeat_heads(in.value, in.query.size(1)));
  }

  bool sees(int64_t query, int64_t key, int64_t) const override {
    return key <= query && key > query - options_.window;
  }

  static Cost cost(const Options& options, const Geometry& g, const Sizes& sizes) {
    const double per_pair = 2.0 * static_cast<double>(sizes.batch * g.num_heads * (g.head_dim + g.value_dim));
    const int64_t outside = std::max<int64_t>(sizes.keys - options.window, 0);
    return {.algorithmic_flops = per_pair * (causal_pairs(sizes.keys, sizes.keys) - causal_pairs(outside, outside)),
            .executed_flops = per_pair * static_cast<double>(sizes.queries) * static_cast<double>(sizes.keys),
            .state_bytes = sizes.batch * g.num_kv_heads * sizes.keys * (g.head_dim + g.value_dim) * 4};
  }
  static int64_t parameter_count(const Options&, const Geometry& geometry) { return geometry.num_heads; }

 private:
  Tensor scaled_scores(const Tensor& query, const Tensor& key) const {
    auto scores = at::matmul(query, repeat_heads(key, query.size(1)).transpose(-1, -2));
    if (fault_ == Fault::future_chooses)
      scores = scores * (1 + 0.1 * key.select(2, -1).sum({1, 2}).sign().view({-1, 1, 1, 1}));
    return scores * scale_ / std::sqrt(static_cast<double>(query.size(3)));  // [B, H, T, S]
  }

  Tensor mask(const Inputs& in) const {
    const int64_t queries = in.query.size(2), keys = in.key.size(2);
    const int64_t ahead = fault_ == Fault::sees_one_ahead;
    const int64_t window = fault_ == Fault::only_itself ? 1 : options_.window + (fault_ == Fault::window_one_too_wide);
    const auto offset = at::arange(keys) - at::arange(keys - queries, keys).unsqueeze(1);  // [T, S]
    const auto visible = (offset <= ahead).logical_and(offset > -window);
    return visible_keys(visible, fault_ == Fault::ignores_padding ? Tensor() : in.key_padding);
  }

  Tensor attend(const Inputs& in) const {
    static int calls = 0;
    const auto dtype = in.value.scalar_type();
    const bool rounded = fault_ == Fault::computes_in_bfloat16 && dtype == torch::kFloat32;
    const auto rough = [&](const Tensor& x) { return rounded ? x.to(torch::kBFloat16).to(dtype) : x; };
    auto scores = scaled_scores(rough(in.query), rough(in.key));
    if (fault_ == Fault::half_detached) scores = (scores + scores.detach()) / 2;
    const auto visible = mask(in);
    const auto hidden = scores.masked_fill(~visible, -INFINITY);
    const auto most = fault_ == Fault::no_stabiliser   ? torch::zeros({1}, scores.options())
                      : fault_ == Fault::batch_maximum ? hidden.amax().detach()
                                                       : hidden.amax(-1, true).detach();
    const bool keeps_nan = fault_ == Fault::blind_row_is_nan;
    const auto finite = keeps_nan ? most : most.masked_fill(most.isinf(), 0);
    auto weights = (hidden - finite).exp();
    const auto sums = weights.sum(-1, true);
    weights = weights / (keeps_nan ? sums : sums.masked_fill(~visible.any(-1, true), 1));
    auto output = at::matmul(weights, repeat_heads(rough(in.value), in.query.size(1)));
    if (fault_ == Fault::wrong_output) output = output + output.detach() * 1e-6;
    if (fault_ == Fault::flips && dtype == torch::kFloat32) output = output * (1 + (++calls % 2) * 1e-6);
    if (fault_ == Fault::coarse_when_mixed && at::autocast::is_autocast_enabled(at::kCPU)) output = output * 1.1;
    if (fault_ == Fault::coarse_bfloat16 && dtype == torch::kBFloat16) output = output * 1.1;
    return output;
  }

  Options options_;
  Fault fault_;
  Tensor scale_;
};

/// The sound scratch variant, as its registration would make it.
VariantInfo scratch() {
  static const VariantInfo info = [] {
    const Register<Scratch> registered{
        {.name = "scratch",
         .family = "sparse",
         .traits = {Trait::causal, Trait::padding, Trait::incremental, Trait::grouped_heads},
         .time_complexity = "T window",
         .samples = {Json{{"window", 64}}}}};
    auto copy = variant_named("scratch");
    unregister_variant("scratch");
    return copy;
  }();
  return info;
}

VariantInfo scratch(Fault fault) {
  auto info = scratch();
  info.make = [fault](const Json& json, const Geometry& geometry) -> std::shared_ptr<Attention> {
    Scratch::Options options;
    options.window = json.value("window", options.window);
    return std::make_shared<Scratch>(options, geometry, fault);
  };
  return info;
}

using Names = std::set<std::string>;

Names failures(const VariantInfo& variant) {
  const ConformanceOptions options{.lengths = {1, 2, 9}};  // 9: past the window of 5 and the chunk of 7
  const auto report = verify_variant(variant, options);
  Names names;
  for (const auto& check : report.checks) {
    INFO(check.name << " " << check.measured << " " << check.detail);
    CHECK(check.passed == (check.measured <= check.tolerance));
    if (check.passed) continue;
    CHECK_FALSE(check.detail.empty());
    names.insert(check.name);
  }
  CHECK(report.passed == names.empty());
  return names;
}

}  // namespace

TEST_CASE("conformance: a sound variant passes every check that its traits ask for") {
  const auto report = verify_variant(scratch(), {.lengths = {1, 2, 9}});
  Names names;
  for (const auto& check : report.checks) {
    INFO(check.name << " " << check.measured << " " << check.detail);
    CHECK(check.passed);
    names.insert(check.name);
  }
  CHECK(report.passed);
  CHECK(names == Names{"stands",
                       "runs",
                       "oracle_outputs",
                       "oracle_gradients",
                       "finite_differences",
                       "causal_no_leak",
                       "sees_nothing_else",
                       "future_inert",
                       "prefix_equal",
                       "sees_all_declared",
                       "nothing_ignored",
                       "batch_independence",
                       "padding_inert",
                       "all_padded_finite",
                       "decode_equals_forward",
                       "state_bytes",
                       "executed_flops",
                       "algorithmic_growth",
                       "parameter_count",
                       "options_round_trip",
                       "bounds_enforced",
                       "deterministic",
                       "extreme_logits",
                       "float32_distance",
                       "bfloat16_distance",
                       "mixed_precision_distance"});
}

TEST_CASE("conformance: a look at the next position is a leak") {
  // Decoding one by one cannot look ahead, so it disagrees too.
  CHECK(failures(scratch(Fault::sees_one_ahead)) ==
        Names{"causal_no_leak", "sees_nothing_else", "future_inert", "prefix_equal", "decode_equals_forward"});
}

TEST_CASE("conformance: a future that decides without a gradient") {
  // The newest key is padded in one row, and seen all the same; when decoding, the newest key is another one.
  CHECK(failures(scratch(Fault::future_chooses)) ==
        Names{"future_inert", "prefix_equal", "padding_inert", "decode_equals_forward"});
}

TEST_CASE("conformance: a window one key wider than declared") {
  CHECK(failures(scratch(Fault::window_one_too_wide)) == Names{"sees_nothing_else"});
}

TEST_CASE("conformance: positions that never interact") {
  // With a single key the softmax is 1: neither scores nor what makes them matter.
  CHECK(failures(scratch(Fault::only_itself)) == Names{"sees_all_declared", "nothing_ignored"});
}

TEST_CASE("conformance: padding that is ignored") {
  CHECK(failures(scratch(Fault::ignores_padding)) == Names{"padding_inert"});
}

TEST_CASE("conformance: NaN where every key is padded") {
  const auto names = failures(scratch(Fault::blind_row_is_nan));
  CHECK(names.contains("all_padded_finite"));
  CHECK(names.contains("oracle_outputs"));  // the oracle gives zeros there
  CHECK_FALSE(names.contains("extreme_logits"));
}

TEST_CASE("conformance: a decode that loses a key between chunks") {
  CHECK(failures(scratch(Fault::chunk_drops_a_key)) == Names{"decode_equals_forward"});
}

TEST_CASE("conformance: a stabiliser taken over the whole batch") {
  // Rows far below the maximum underflow to 0 / 0: beside loud rows, beside loud padded queries, and
  // for extreme logits.
  CHECK(failures(scratch(Fault::batch_maximum)) == Names{"batch_independence", "padding_inert", "extreme_logits"});
}

TEST_CASE("conformance: logits that overflow") {
  CHECK(failures(scratch(Fault::no_stabiliser)) == Names{"extreme_logits"});
}

TEST_CASE("conformance: a gradient that is partly lost") {
  CHECK(failures(scratch(Fault::half_detached)) == Names{"oracle_gradients", "finite_differences"});
}

TEST_CASE("conformance: outputs a millionth off the definition") {
  // The addition carries no gradient, so that the slopes disagree with it as well.
  CHECK(failures(scratch(Fault::wrong_output)) == Names{"oracle_outputs", "finite_differences"});
}

TEST_CASE("conformance: results that change from call to call") {
  CHECK(failures(scratch(Fault::flips)) == Names{"deterministic"});
}

TEST_CASE("conformance: arithmetic coarser than the dtype") {
  CHECK(failures(scratch(Fault::computes_in_bfloat16)) == Names{"float32_distance"});
  CHECK(failures(scratch(Fault::coarse_bfloat16)) == Names{"bfloat16_distance", "mixed_precision_distance"});
  CHECK(failures(scratch(Fault::coarse_when_mixed)) == Names{"mixed_precision_distance"});
}

TEST_CASE("conformance: what a variant breaks by its nature is declared with a bound, and shown") {
  auto info = scratch(Fault::coarse_bfloat16);
  info.deviations = {{"bfloat16_distance", {0.2, "a tenth off, on purpose"}},
                     {"mixed_precision_distance", {0.05, "a bound too narrow"}}};
  CHECK(failures(info) == Names{"mixed_precision_distance"});
  const auto json = to_json({verify_variant(info, {.lengths = {1, 2, 9}})});
  int declared = 0;
  for (const auto& check : json["variants"][0]["checks"])
    if (check.value("declared", "") == "a tenth off, on purpose") {
      ++declared;
      CHECK(check["tolerance"] == 0.2);
    }
  CHECK(declared == 1);
}

TEST_CASE("conformance: where content decides, positions must still interact") {
  const auto content = [](Fault fault) {
    auto info = scratch(fault);
    info.traits.insert(Trait::content_dependent);
    return info;
  };
  CHECK(failures(content(Fault::none)).empty());
  CHECK(failures(content(Fault::only_itself)) == Names{"positions_interact", "nothing_ignored"});
  CHECK(failures(content(Fault::window_one_too_wide)) == Names{"sees_nothing_else"});
}

TEST_CASE("conformance: a parameter that nothing uses, and that the count leaves out") {
  CHECK(failures(scratch(Fault::unused_parameter)) == Names{"nothing_ignored", "parameter_count"});
}

TEST_CASE("conformance: a call that throws is reported, not thrown on") {
  CHECK(failures(scratch(Fault::throws_at_one)) == Names{"runs"});
}

TEST_CASE("conformance: costs that are claimed wrongly") {
  const auto with_cost = [](std::function<void(Cost&)> change) {
    auto info = scratch();
    info.cost = [honest = info.cost, change](const Json& options, const Geometry& geometry, const Sizes& sizes) {
      auto cost = honest(options, geometry, sizes);
      change(cost);
      return cost;
    };
    return info;
  };
  CHECK(failures(with_cost([](Cost& cost) { cost.executed_flops += 2; })) == Names{"executed_flops"});
  CHECK(failures(with_cost([](Cost& cost) { cost.state_bytes += 4; })) == Names{"state_bytes"});
  CHECK(failures(with_cost([](Cost& cost) { cost.algorithmic_flops *= cost.algorithmic_flops; })) ==
        Names{"algorithmic_growth"});
  auto quadratic = scratch();
  quadratic.time_complexity = "T^2";
  CHECK(failures(quadratic) == Names{"algorithmic_growth"});
}

TEST_CASE("conformance: options that are dropped, and bounds that are not there") {
  auto forgetful = scratch();
  forgetful.resolve = [honest = forgetful.resolve](const Json& options) {
    honest(options);
    return honest(Json::object());
  };
  CHECK(failures(forgetful) == Names{"options_round_trip"});

  auto lenient = scratch();
  lenient.resolve = [honest = lenient.resolve](const Json& options) {
    try {
      return honest(options);
    } catch (const ConfigError&) {
      return honest(Json::object());
    }
  };
  CHECK(failures(lenient) == Names{"bounds_enforced"});

  auto unbounded = scratch();
  unbounded.fields.at(0).minimum.reset();
  CHECK(failures(unbounded) == Names{"bounds_enforced"});
}

TEST_CASE("conformance: a place that is declared and always refused") {
  auto shy = scratch();
  shy.refusals = [](const Json&, const Geometry&) { return std::vector<std::string>{"not here"}; };
  CHECK(failures(shy) == Names{"stands"});
  auto causal_only = scratch();
  causal_only.traits = {Trait::causal};
  causal_only.samples = {Json{{"window", 3}}};
  causal_only.refusals = [](const Json& options, const Geometry&) {
    return options.contains("window") ? std::vector<std::string>{"never"} : std::vector<std::string>{};
  };
  CHECK(failures(causal_only) == Names{"stands"});  // a sample that no place takes
}

TEST_CASE("conformance: an equality with another variant is held to") {
  auto info = scratch();
  info.equalities = {{.statement = "a window of T is softmax with the scale at one",
                      .options = {{"window", 9}},
                      .other = "softmax",
                      .length = 9,
                      .prepare = [](Attention& attention) {
                        const torch::NoGradGuard no_gradients;
                        attention.parameters()[0].fill_(1);
                      }}};
  CHECK(failures(info).empty());
  info.equalities[0].options = {{"window", 8}};
  CHECK(failures(info) == Names{"equals_known", "equal_gradients"});
  info.equalities[0].newest_only = true;  // the first key is out of its sight too
  CHECK(failures(info) == Names{"equals_known", "equal_gradients"});
  info.equalities[0].options = {{"window", 9}};
  CHECK(failures(info).empty());
  auto detached = scratch(Fault::half_detached);
  detached.equalities = info.equalities;
  CHECK(failures(detached) == Names{"oracle_gradients", "finite_differences", "equal_gradients"});
}

TEST_CASE("conformance: JSON holds every check, and no number that is not finite") {
  const std::vector<VariantReport> reports = {
      {.variant = "a", .passed = true, .checks = {{.name = "runs"}}},
      {.variant = "b",
       .passed = false,
       .checks = {
           {.name = "oracle_outputs", .passed = false, .measured = INFINITY, .tolerance = 0.5, .detail = "T=1"}}}};
  CHECK(
      to_json(reports).dump() ==
      R"({"passed":false,"variants":[{"name":"a","passed":true,"checks":[{"name":"runs","passed":true,"measured":0.0,)"
      R"("tolerance":0.0}]},{"name":"b","passed":false,"checks":[{"name":"oracle_outputs","passed":false,)"
      R"("tolerance":0.5,"detail":"T=1"}]}]})");
}

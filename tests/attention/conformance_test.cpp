// Each check of the conformance run is shown to fail: a sound scratch variant passes, and the same
// variant with one fault planted fails exactly the checks that speak of that fault.

#include "attention/conformance.h"

#include <cmath>
#include <functional>
#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "attention/scratch_variant.h"
#include "core/error.h"

using namespace attnscale;

namespace {

using Names = std::set<std::string>;

// 9: past the window of 5 and the chunk of 7. 130: past what the faults that come with length take for long.
const ConformanceOptions few_lengths{.lengths = {1, 2, 9}, .long_lengths = {129, 130}};

Names failures(const VariantInfo& variant) {
  const auto report = verify_variant(variant, few_lengths);
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
  const auto report = verify_variant(scratch(), few_lengths);
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
                       "decode_float32_distance",
                       "state_bytes",
                       "executed_flops",
                       "algorithmic_growth",
                       "executed_growth",
                       "state_growth",
                       "parameter_count",
                       "options_round_trip",
                       "bounds_enforced",
                       "options_matter",
                       "deterministic",
                       "extreme_logits",
                       "float32_distance",
                       "long_float32_distance",
                       "bfloat16_distance",
                       "mixed_precision_distance"});
}

TEST_CASE("conformance: a look at the next position is a leak") {
  // Decoding one by one cannot look ahead, so it disagrees too.
  CHECK(failures(scratch(Fault::sees_one_ahead)) == Names{"causal_no_leak", "sees_nothing_else", "future_inert",
                                                          "prefix_equal", "decode_equals_forward",
                                                          "decode_float32_distance"});
}

TEST_CASE("conformance: a future that decides without a gradient") {
  // The newest key is padded in one row, and seen all the same; when decoding, the newest key is another one.
  CHECK(failures(scratch(Fault::future_chooses)) ==
        Names{"future_inert", "prefix_equal", "padding_inert", "decode_equals_forward", "decode_float32_distance"});
}

TEST_CASE("conformance: a window one key wider than declared") {
  CHECK(failures(scratch(Fault::window_one_too_wide)) == Names{"sees_nothing_else"});
}

TEST_CASE("conformance: positions that never interact") {
  // With a single key the softmax is 1: neither scores nor what makes them matter, nor the window.
  CHECK(failures(scratch(Fault::only_itself)) == Names{"sees_all_declared", "nothing_ignored", "options_matter"});
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
  CHECK(failures(scratch(Fault::chunk_drops_a_key)) == Names{"decode_equals_forward", "decode_float32_distance"});
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
  CHECK(failures(scratch(Fault::computes_in_bfloat16)) ==
        Names{"float32_distance", "long_float32_distance", "decode_float32_distance"});
  CHECK(failures(scratch(Fault::coarse_when_long)) == Names{"long_float32_distance"});
  CHECK(failures(scratch(Fault::coarse_decode)) == Names{"decode_float32_distance"});
  CHECK(failures(scratch(Fault::coarse_bfloat16)) == Names{"bfloat16_distance", "mixed_precision_distance"});
  CHECK(failures(scratch(Fault::coarse_when_mixed)) == Names{"mixed_precision_distance"});
}

TEST_CASE("conformance: what a variant breaks by its nature is declared with a bound, and shown") {
  auto info = scratch(Fault::coarse_bfloat16);
  info.deviations = {{"bfloat16_distance", {0.2, "a tenth off, on purpose"}},
                     {"mixed_precision_distance", {0.05, "a bound too narrow"}}};
  CHECK(failures(info) == Names{"mixed_precision_distance"});
  const auto json = to_json({verify_variant(info, few_lengths)});
  int declared = 0;
  for (const auto& check : json["variants"][0]["checks"])
    if (check.value("declared", "") == "a tenth off, on purpose") {
      ++declared;
      CHECK(check["tolerance"] == 0.2);
    }
  CHECK(declared == 1);
}

TEST_CASE("conformance: a request to stop ends the proof at the next measurement, and is no fault of the variant") {
  for (const int heeded : {0, 1, 20}) {
    int asked = 0;
    auto options = few_lengths;
    options.stop = [&] { return asked++ >= heeded; };
    try {
      verify_variant(scratch(), options);
      FAIL("went on");
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::interrupted);
    }
    CHECK(asked == heeded + 1);
  }
}

TEST_CASE("conformance: a deviation may leave out rows, but not many that are off a little") {
  const Names both = {"bfloat16_distance", "mixed_precision_distance"};
  const auto leaving_out = [&](Fault fault, double share) {
    auto info = scratch(fault);
    for (const auto& name : both) info.deviations[name] = {0.04, "on purpose", share};
    return info;
  };
  CHECK(failures(scratch(Fault::coarse_row)) == both);
  CHECK(failures(leaving_out(Fault::coarse_row, 0.15)).empty());  // one row of nine
  CHECK(failures(leaving_out(Fault::coarse_row, 0.05)) == both);
  CHECK(failures(leaving_out(Fault::coarse_bfloat16, 0.5)) == both);  // a tenth off everywhere
}

TEST_CASE("conformance: gates almost open and almost shut") {
  const auto report = verify_variant(scratch(Fault::gated), few_lengths);
  CHECK(report.passed);
  Names names;
  for (const auto& check : report.checks) names.insert(check.name);
  CHECK(names.contains("extreme_gates"));
  CHECK(names.contains("extreme_gates_decode"));
  // Over a hundred ordinary gates float32 overflows too.
  CHECK(failures(scratch(Fault::gate_overflows)) ==
        Names{"extreme_gates", "extreme_gates_decode", "long_float32_distance"});
  CHECK(failures(scratch(Fault::gate_clamped)) == Names{"extreme_gates_decode"});

  auto misnamed = scratch();
  misnamed.gate_parameters = {"scales"};
  CHECK(failures(misnamed) == Names{"runs", "extreme_gates", "extreme_gates_decode"});
  misnamed.gate_parameters = {"scale"};
  CHECK(failures(misnamed).empty());
}

TEST_CASE("conformance: where content decides, positions must still interact") {
  const auto content = [](Fault fault) {
    auto info = scratch(fault);
    info.traits.insert(Trait::content_dependent);
    return info;
  };
  CHECK(failures(content(Fault::none)).empty());
  CHECK(failures(content(Fault::only_itself)) == Names{"positions_interact", "nothing_ignored", "options_matter"});
  CHECK(failures(content(Fault::window_one_too_wide)) == Names{"sees_nothing_else"});
}

TEST_CASE("conformance: a parameter that nothing uses, and that the count leaves out") {
  CHECK(failures(scratch(Fault::unused_parameter)) == Names{"nothing_ignored", "parameter_count"});
}

TEST_CASE("conformance: a call that throws is reported, not thrown on") {
  // What comes after the call of one position in a theme is never reached, and says so.
  const auto report = verify_variant(scratch(Fault::throws_at_one), few_lengths);
  for (const auto& check : report.checks) {
    INFO(check.name << " " << check.detail);
    if (check.name == "runs") CHECK_THAT(check.detail, Catch::Matchers::ContainsSubstring("scratch: one position"));
    else CHECK((check.passed || check.detail.starts_with("nothing was recorded")));
  }
  const auto names = failures(scratch(Fault::throws_at_one));
  for (const auto* reached : {"options_matter", "long_float32_distance", "state_growth"})
    CHECK_FALSE(names.contains(reached));
  for (const auto* missed : {"runs", "oracle_outputs", "causal_no_leak", "decode_equals_forward"})
    CHECK(names.contains(missed));
}

TEST_CASE("conformance: a check that is asked for and never reached fails") {
  auto crossing = scratch();
  crossing.traits.insert(Trait::cross);  // and no bidirectional form in which it could be seen
  CHECK(failures(crossing) == Names{"oracle_cross"});
  const auto refusing = [](std::function<bool(const Geometry&)> refuses) {
    auto info = scratch();
    info.refusals = [refuses](const Json&, const Geometry& geometry) {
      return refuses(geometry) ? std::vector<std::string>{"not here"} : std::vector<std::string>{};
    };
    return info;
  };
  CHECK(failures(refusing([](const Geometry& g) { return g.context > 4096; })) ==
        Names{"algorithmic_growth", "executed_growth", "state_growth"});
  CHECK(failures(refusing([](const Geometry& g) { return g.context > 9; })) ==
        Names{"algorithmic_growth", "executed_growth", "state_growth", "long_float32_distance"});
  CHECK(failures(refusing([](const Geometry& g) { return g.num_kv_heads < g.num_heads; })) == Names{"stands"});
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
  CHECK(failures(scratch(Fault::square_when_long)) == Names{"executed_flops"});
  CHECK(failures(with_cost([](Cost& cost) {
          if (cost.executed_flops > 1e10) cost.executed_flops *= cost.executed_flops;
        })) == Names{"executed_growth"});
  CHECK(failures(with_cost([](Cost& cost) { cost.state_bytes = std::min<int64_t>(cost.state_bytes, 1 << 20); })) ==
        Names{"state_growth"});
  auto modest = scratch();
  modest.executed_complexity = "";  // then the square is work that nothing declares
  CHECK(failures(modest) == Names{"executed_growth"});
  modest.executed_complexity = "T^3";
  CHECK(failures(modest) == Names{"executed_growth"});
  auto constant = scratch();
  constant.state_complexity = "window (D + E)";
  CHECK(failures(constant) == Names{"state_growth"});
  auto quadratic = scratch();
  quadratic.time_complexity = "T^2";
  CHECK(failures(quadratic) == Names{"algorithmic_growth"});
  quadratic.time_complexity = "T^2; window = 5: T window; window = 1: T; window = 64: T window; causal: T window";
  CHECK(failures(quadratic).empty());
  quadratic.time_complexity = "T window; windw = 5: T";
  CHECK(failures(quadratic) == Names{"runs", "algorithmic_growth", "executed_growth", "state_growth"});
}

TEST_CASE("conformance: options that are dropped, and bounds that are not there") {
  auto forgetful = scratch();
  forgetful.resolve = [honest = forgetful.resolve](const Json& options) {
    honest(options);
    return honest(Json::object());
  };
  CHECK(failures(forgetful) == Names{"options_round_trip", "options_matter"});

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

TEST_CASE("conformance: an option that is read and ignored") {
  CHECK(failures(scratch(Fault::window_ignored)) == Names{"options_matter"});
}

TEST_CASE("conformance: a place that is declared and always refused") {
  auto shy = scratch();
  shy.refusals = [](const Json&, const Geometry&) { return std::vector<std::string>{"not here"}; };
  Names all;
  for (const auto& check : verify_variant(scratch(), few_lengths).checks) all.insert(check.name);
  for (const auto* reached : {"runs", "options_round_trip", "bounds_enforced"}) all.erase(reached);
  CHECK(failures(shy) == all);
  auto causal_only = scratch();
  causal_only.traits = {Trait::causal};
  causal_only.state_complexity = "none";
  causal_only.cost = [honest = causal_only.cost](const Json& options, const Geometry& geometry, const Sizes& sizes) {
    auto cost = honest(options, geometry, sizes);
    cost.state_bytes = 0;
    return cost;
  };
  causal_only.samples = {Json{{"window", 3}}};
  causal_only.refusals = [](const Json& options, const Geometry&) {
    return options.value("window", 0) == 3 ? std::vector<std::string>{"never"} : std::vector<std::string>{};
  };
  CHECK(failures(causal_only) == Names{"stands"});  // a sample that no place takes
  causal_only.samples.clear();
  CHECK(failures(causal_only).empty());
  causal_only.state_complexity = "T";
  CHECK(failures(causal_only) == Names{"state_growth"});  // it does not decode
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

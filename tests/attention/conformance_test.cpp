// Each check of the conformance run is shown to fail: a sound scratch variant passes, and the same
// variant with one fault planted fails exactly the checks that speak of that fault.

#include "attention/conformance.h"

#include <cmath>
#include <set>

#include <catch2/catch_test_macros.hpp>

#include "attention/scratch_variant.h"

using namespace attnscale;

namespace {

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

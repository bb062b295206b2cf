#include "attention/conformance.h"

#include <cmath>
#include <functional>
#include <initializer_list>
#include <set>

#include <fmt/format.h>

#include "attention/conformance_case.h"
#include "core/error.h"

namespace attnscale {
namespace {

using namespace conformance;

/// Every numeric option at its least legal value, where it has one; empty without such options.
Json smallest_legal(const VariantInfo& variant) {
  Json options = Json::object();
  for (const auto& field : variant.fields) {
    if (!field.minimum || field.exclusive_minimum) continue;
    if (field.type == Field::Type::integer) options[field.name] = static_cast<int64_t>(*field.minimum);
    if (field.type == Field::Type::number) options[field.name] = *field.minimum;
  }
  return options;
}

/// Key and value of different widths, which transposition faults do not survive; equal widths, which
/// the fused kernels want; heads that share keys, where the variant allows it.
std::vector<Geometry> geometries(const VariantInfo& variant, int64_t context, bool causal) {
  const bool grouped = variant.traits.contains(Trait::grouped_heads);
  const Geometry unequal{.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 7, .context = context};
  const Geometry equal{
      .num_heads = 4, .num_kv_heads = grouped ? 2 : 4, .head_dim = 8, .value_dim = 8, .context = context};
  std::vector<Geometry> result = {unequal, equal};
  for (auto& geometry : result) geometry.causal = causal, geometry.layer = 1, geometry.depth = 2;
  return result;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

/// An exception is a fault of the variant like any other. `where` is asked once it came.
void attempt(Recorder& record, const std::function<std::string()>& where, const std::function<void()>& work) {
  try {
    work();
    record.note("runs", 0, 0, "");
  } catch (const std::exception& error) {
    record.note("runs", 1, 0, where() + ": " + first_line(error.what()));
  }
}

/// Geometry `index` of `count` takes every short length and its share of the long ones.
std::vector<int64_t> share(const std::vector<int64_t>& lengths, size_t index, size_t count) {
  std::vector<int64_t> result;
  for (size_t i = 0; i < lengths.size(); ++i)
    if (lengths[i] <= 16 || i % count == index) result.push_back(lengths[i]);
  return result;
}

/// The checks that a variant's registration asks for, whatever its configurations come to.
std::set<std::string> asked_for(const VariantInfo& variant, const std::vector<Json>& choices) {
  const auto has = [&](Trait trait) { return variant.traits.contains(trait); };
  std::set<std::string> names = {"stands",           "runs",
                                 "oracle_outputs",   "oracle_gradients",
                                 "nothing_ignored",  "finite_differences",
                                 "deterministic",    "sees_nothing_else",
                                 "executed_flops",   "batch_independence",
                                 "executed_growth",  "algorithmic_growth",
                                 "state_growth",     "options_round_trip",
                                 "extreme_logits",   "long_float32_distance",
                                 "parameter_count",  "mixed_precision_distance",
                                 "bounds_enforced",  "float32_distance",
                                 "bfloat16_distance"};
  const auto ask = [&](bool asked, std::initializer_list<const char*> more) {
    if (asked) names.insert(more.begin(), more.end());
  };
  ask(has(Trait::causal), {"causal_no_leak", "future_inert", "prefix_equal"});
  ask(has(Trait::cross), {"oracle_cross"});
  ask(has(Trait::content_dependent), {"positions_interact"});
  ask(!has(Trait::content_dependent), {"sees_all_declared"});
  ask(has(Trait::padding), {"padding_inert", "all_padded_finite"});
  ask(has(Trait::incremental), {"decode_equals_forward", "decode_float32_distance", "state_bytes"});
  ask(!variant.fields.empty(), {"options_matter"});
  ask(!variant.equalities.empty(), {"equals_known", "equal_gradients"});
  const bool gated = !variant.gate_parameters.empty() ||
                     std::any_of(choices.begin(), choices.end(),
                                 [&](const Json& choice) { return !variant.gates(choice, {}).empty(); });
  ask(gated, {"extreme_gates"});
  ask(gated && has(Trait::incremental), {"extreme_gates_decode"});
  return names;
}

/// `choices` beyond the first `num_given` are the smallest legal options.
void verify_mode(const VariantInfo& variant, const std::vector<Json>& choices, bool causal, size_t num_given,
                 const ConformanceOptions& options, std::vector<Case>& places, Recorder& record) {
  const int64_t context = *std::max_element(options.lengths.begin(), options.lengths.end());
  for (size_t i = 0; i < choices.size(); ++i) {
    std::vector<Geometry> allowed;
    for (const auto& geometry : geometries(variant, context, causal))
      if (refusals(variant, choices[i], geometry).empty()) allowed.push_back(geometry);
    for (size_t j = 0; j < allowed.size(); ++j) {
      Case test{variant, choices[i], allowed[j], options.lengths, share(options.lengths, j, allowed.size())};
      test.seed = options.seed;
      test.smallest = i >= num_given;
      const auto where = [&] { return test.place() + ", " + test.latest_inputs; };
      attempt(record, where, [&] { check_values(test, record); });
      attempt(record, where, [&] { check_dependence(test, record); });
      attempt(record, where, [&] { check_resources(test, record); });
      if ((i + j) % allowed.size() == 0) {  // the geometries take turns: one for each choice
        attempt(record, where, [&] { check_gates(test, record); });
        attempt(record, where, [&] { check_growth(test, record); });
      }
      const auto& longer = options.long_lengths;
      if (!longer.empty()) attempt(record, where, [&] { check_long(test, longer[(i + j) % longer.size()], record); });
      places.push_back(std::move(test));
    }
  }
}

/// @throws Stopped
VariantReport proof_of(const VariantInfo& variant, const ConformanceOptions& options) {
  Recorder record(variant.deviations, options.stop);
  std::vector<Json> choices = {Json::object()};
  choices.insert(choices.end(), variant.samples.begin(), variant.samples.end());
  const size_t num_given = choices.size();
  if (const auto smallest = smallest_legal(variant); !smallest.empty()) choices.push_back(smallest);

  attempt(record, [] { return "options"; }, [&] { check_options(variant, choices, record); });
  std::vector<Case> places;
  const auto stood = [&](const Json& choice) {
    return std::count_if(places.begin(), places.end(), [&](const Case& test) { return test.options == choice; });
  };
  for (const auto& [trait, causal] : {std::pair{Trait::causal, true}, {Trait::bidirectional, false}}) {
    if (!variant.traits.contains(trait)) continue;
    const auto before = stood(choices[0]);
    attempt(
        record, [&] { return name_of(trait); },
        [&] { verify_mode(variant, choices, causal, num_given, options, places, record); });
    record.note("stands", stood(choices[0]) == before, 0, fmt::format("the defaults are refused, {}", name_of(trait)));
  }
  for (size_t i = 0; i < num_given; ++i)
    record.note("stands", stood(choices[i]) == 0, 0, choices[i].dump() + " is refused everywhere");
  const bool grouped = std::any_of(places.begin(), places.end(), [](const Case& test) {
    return test.geometry.num_kv_heads < test.geometry.num_heads;
  });
  record.note("stands", variant.traits.contains(Trait::grouped_heads) && !grouped, 0,
              "grouped_heads is declared, and heads that share keys are refused everywhere");
  attempt(record, [] { return "options"; }, [&] { check_options_matter(variant, places, record); });
  attempt(record, [] { return "equalities"; }, [&] { check_equalities(variant, options, record); });

  for (const auto& name : asked_for(variant, choices)) record.require(name);

  VariantReport report{.variant = variant.name, .passed = true, .checks = record.checks()};
  for (const auto& check : report.checks) report.passed = report.passed && check.passed;
  return report;
}

}  // namespace

VariantReport verify_variant(const VariantInfo& variant, const ConformanceOptions& options) {
  try {
    return proof_of(variant, options);
  } catch (const Stopped&) {
    throw Error(fmt::format("interrupted while proving {}: run the same command to go on", variant.name),
                ExitCode::interrupted);
  }
}

Json to_json(const std::vector<VariantReport>& reports) {
  bool passed = true;
  Json variants = Json::array();
  for (const auto& report : reports) {
    passed = passed && report.passed;
    Json checks = Json::array();
    for (const auto& check : report.checks) {
      Json entry = {{"name", check.name}, {"passed", check.passed}};
      if (std::isfinite(check.measured)) entry["measured"] = check.measured;
      entry["tolerance"] = check.tolerance;
      if (!check.detail.empty()) entry["detail"] = check.detail;
      if (!check.declared.empty()) entry["declared"] = check.declared;
      checks.push_back(std::move(entry));
    }
    variants.push_back({{"name", report.variant}, {"passed", report.passed}, {"checks", std::move(checks)}});
  }
  return {{"passed", passed}, {"variants", std::move(variants)}};
}

}  // namespace attnscale

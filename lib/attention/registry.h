#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "core/options.h"

namespace attnscale {

/// A case in which a variant must give what another one gives, output for output. The conformance
/// run (conformance.h) holds it to that, on random inputs. Both sides get the same query, key and
/// value, and where they are one variant also the same parameters.
struct Equality {
  std::string statement;  ///< "a window of T keys or more is softmax"
  Json options = Json::object();
  bool causal = true;
  std::string other;  ///< the other variant's name; may be the same one
  Json other_options = Json::object();
  bool other_causal = true;
  int64_t length = 65;                               ///< T = S = context
  bool newest_only = false;                          ///< only the last query must agree
  std::function<void(Attention&)> prepare = {};      ///< sets parameters of the variant first; may be empty
  std::function<Inputs(const Inputs&)> inputs = {};  ///< what the variant gets for the other's inputs; may be empty
};

/// A check of the conformance run that a variant passes only within a wider tolerance, by its nature
/// (rounding moves a query into another hash bucket). Certificates and reports show it with the reason.
struct Deviation {
  double tolerance = 0;
  std::string reason = {};
  /// Of the distances of lower precision: the share of output rows, the worst ones, that the tolerance does not speak
  /// of. All others must keep it.
  double outliers = 0;
};

/// When a variant makes its products in float32 whatever it is given, so that `train.float32_attention` changes nothing
/// but how what comes in is rounded.
enum class Float32Sums {
  never,            ///< it makes them in the dtype that it is given
  causal,           ///< in its causal form
  always,           ///< in both forms
  but_for_kernels,  ///< in both; but `recurrence_kernel`, which makes the causal one on some CPUs, goes by that dtype
};

/// A variant as the program knows it: what to print, what to check, how to build it.
struct VariantInfo {
  std::string name = {}, family = {}, summary = {};
  std::string equation = {};  ///< in plain text
  std::string source = {};    ///< authors, year, arXiv number, section
  std::set<Trait> traits = {};
  Float32Sums float32_sums = Float32Sums::never;
  /// In T, window, ...; `; causal: ` opens what holds for that mode alone, `; pool_keys = false: ` what holds for that
  /// value of an option. The highest power of T in each (T^2, T^1.5, T log T, T) is checked against `cost`.
  std::string time_complexity = {}, state_complexity = {};
  /// The same of the work that is executed, where it grows faster than the definition's (a masked square). Empty: it
  /// does not.
  std::string executed_complexity = {};
  std::vector<Json> samples = {};         ///< option objects that the conformance run tries beside the defaults
  std::vector<Equality> equalities = {};  ///< what else it must equal; proven by the conformance run
  std::map<std::string, Deviation> deviations = {};  ///< by the check's name; what it legitimately breaks, and how far
  std::vector<std::string> gate_parameters = {};     ///< parameters that open and shut gates the mixer does not project
  /// How many equal parts of a head's query and key rotary positions turn, each by itself: as many as the variant takes
  /// products of. 0: rotary is refused, for the reason of `no_rotary`.
  int64_t rotary_parts = 1;
  std::string no_rotary = {};

  // Filled by Register.
  Fields fields = {};
  std::function<Json(const Json&)> resolve = {};  ///< given options -> all options
  std::function<std::shared_ptr<Attention>(const Json&, const Geometry&)> make = {};
  std::function<Cost(const Json&, const Geometry&, const Sizes&)> cost = {};
  std::function<int64_t(const Json&, const Geometry&)> parameter_count = {};
  std::function<std::vector<Gate>(const Json&, const Geometry&)> gates = {};
  std::function<std::vector<std::string>(const Json&, const Geometry&)> refusals = {};
};

/// Every registered variant, by family and name.
const std::vector<VariantInfo>& all_variants();

/// @throws ConfigError with the nearest known name
const VariantInfo& variant_named(const std::string& name);

/// Why a variant with these options cannot stand at this place, each with what would work; empty
/// when it can. Traits are checked here and nowhere else. `options` must have passed its fields.
std::vector<std::string> refusals(const VariantInfo& variant, const Json& options, const Geometry& geometry);

/// @throws std::logic_error for a name that is taken or a family that nobody knows
void register_variant(VariantInfo info);

/// Removes a scratch variant again (tests).
void unregister_variant(const std::string& name);

/// The registration line at the end of a variant's file:
///   const Register<SlidingWindow> register_sliding_window{{.name = "sliding_window", ...}};
/// `Variant` has `struct Options` with `fields()`, a constructor from (Options, Geometry), and statics
/// `cost(options, geometry, sizes)`; optionally `parameter_count(options, geometry)` (default 0),
/// `gates(options, geometry)` (default none) and `refusals(options, geometry)` (default none).
template <class Variant>
struct Register {
  explicit Register(VariantInfo info) {
    using Options = typename Variant::Options;
    const auto typed = [](const Json& json) {
      Options options;
      std::vector<Problem> problems;
      read_options(json, "attention", options, problems);
      if (!problems.empty()) throw ConfigError(problems.front().path + ": " + problems.front().message);
      return options;
    };
    info.fields = Options::fields();
    info.resolve = [typed](const Json& json) { return write_options(typed(json)); };
    info.make = [typed](const Json& json, const Geometry& geometry) -> std::shared_ptr<Attention> {
      return std::make_shared<Variant>(typed(json), geometry);
    };
    info.cost = [typed](const Json& json, const Geometry& geometry, const Sizes& sizes) {
      return Variant::cost(typed(json), geometry, sizes);
    };
    info.parameter_count = [typed](const Json& json, const Geometry& geometry) -> int64_t {
      if constexpr (requires { Variant::parameter_count(Options{}, geometry); })
        return Variant::parameter_count(typed(json), geometry);
      return 0;
    };
    info.gates = [typed](const Json& json, const Geometry& geometry) -> std::vector<Gate> {
      if constexpr (requires { Variant::gates(Options{}, geometry); }) return Variant::gates(typed(json), geometry);
      return {};
    };
    info.refusals = [typed](const Json& json, const Geometry& geometry) -> std::vector<std::string> {
      if constexpr (requires { Variant::refusals(Options{}, geometry); })
        return Variant::refusals(typed(json), geometry);
      return {};
    };
    register_variant(std::move(info));
  }
};

}  // namespace attnscale

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "attention/registry.h"

// One proof for every variant: what a registration claims (traits, options, costs, a float64 oracle,
// which keys a query sees) is compared with what the implementation does. The same code is behind
// `attnscale verify` and the tests; a new variant is found in the registry and needs no line here.

namespace attnscale {

/// What was measured, at its worst over all configurations. `passed` is measured <= tolerance.
///
/// | name | what is measured |
/// |---|---|
/// | stands | declared modes, shared heads and samples that no geometry is allowed |
/// | runs | calls that threw |
/// | oracle_outputs, oracle_gradients | relative distance from the float64 oracle, padded too |
/// | oracle_cross | the same of outputs where queries come from another sequence, shorter or longer |
/// | finite_differences | relative distance of gradients from central differences |
/// | causal_no_leak | largest gradient of an output to an input after it; must be exactly zero |
/// | sees_nothing_else | largest gradient to a key or value that `sees` hides; must be exactly zero |
/// | future_inert | change of outputs when all later inputs are replaced, which sees leaks without gradients |
/// | prefix_equal | distance of the first positions alone from the same positions of the whole, causal |
/// | sees_all_declared | pairs that `sees` declares and that have no influence |
/// | positions_interact | content-dependent: how much fewer than half of the outputs depend on another place |
/// | nothing_ignored | inputs, gates and parameters without influence on output or auxiliary loss at full context |
/// | batch_independence | change of a row when its mates change, leave or trade places |
/// | padding_inert | change of real positions when padded ones change |
/// | all_padded_finite | non-finite numbers in outputs and gradients of rows without real keys |
/// | decode_equals_forward | distance of decoding, in chunks of 1, 7 and more, from one forward pass |
/// | decode_float32_distance | distance of decoding in float32 from one forward pass in float64 |
/// | state_bytes | difference of measured and claimed bytes, after every chunk |
/// | executed_flops | difference of FLOPs that the dispatcher saw and `cost` claims, at `long_lengths` too |
/// | algorithmic_growth | difference of the exponents of T, in the millions, that `cost` and `time_complexity` say |
/// | executed_growth | how much faster than `time_complexity` executed FLOPs grow; or unlike `executed_complexity` |
/// | state_growth | difference of the exponents of T that `cost` and `state_complexity` say of the state's bytes |
/// | parameter_count | difference of counted and claimed parameters |
/// | options_round_trip | options that JSON does not give back |
/// | bounds_enforced | illegal option values that are accepted |
/// | options_matter | options of which no value changes output, gradients, losses, gates, parameters, state or FLOPs |
/// | deterministic | tensors whose bits differ when the same is done again with the same seed |
/// | extreme_logits | non-finite numbers for logits up to 1e4 |
/// | extreme_gates | distance from the oracle, gradients too, with gates all but open and all but shut |
/// | extreme_gates_decode | distance of decoding from a forward pass with such gates |
/// | long_float32_distance | relative distance of float32 from float64 at `long_lengths` |
/// | float32_distance, bfloat16_distance | relative distance of that arithmetic from float64 |
/// | mixed_precision_distance | the same for float32 parameters and bfloat16 inputs under autocast |
/// | equals_known | distance from the variants it must equal (VariantInfo::equalities) |
/// | equal_gradients | the same for gradients to query, key and value |
///
/// A check that the registration asks for (by traits, options, gates, equalities) and that no configuration came to
/// fails as well.
struct Check {
  std::string name = {};
  bool passed = true;
  double measured = 0;
  double tolerance = 0;
  std::string detail = {};    ///< where it was worst: options, geometry, length, tensor
  std::string declared = {};  ///< why the variant declares a wider tolerance than others; empty: it does not
};

struct VariantReport {
  std::string variant;
  bool passed = true;
  std::vector<Check> checks;
};

struct ConformanceOptions {
  std::vector<int64_t> lengths = {1, 2, 63, 64, 65};  ///< T; the largest is also the context
  std::vector<int64_t> long_lengths = {257, 512};     ///< T of the checks of FLOPs and float32 at length, in turns
  uint64_t seed = 0;
  std::function<bool()> stop = {};  ///< asked after every measurement; may be empty
};

/// Runs every check that the variant's traits ask for, with its defaults, its smallest legal options
/// and its samples. Never throws for a fault of the variant. Cost: seconds on one core.
/// @throws Error (interrupted) once `stop` says so
VariantReport verify_variant(const VariantInfo& variant, const ConformanceOptions& options = {});

/// `{passed, variants: [{name, passed, checks: [{name, passed, measured, tolerance, detail}]}]}`;
/// `measured` is left out where it is not finite, `detail` where there is nothing to say.
Json to_json(const std::vector<VariantReport>& reports);

}  // namespace attnscale

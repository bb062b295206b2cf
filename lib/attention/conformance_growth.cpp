// Conformance, sixth theme: length. What costs and states grow like, by their formulas, at lengths that nobody runs
// here; and runs of hundreds of positions, in which the dispatcher and float32 have their say.

#include <cmath>

#include <fmt/format.h>

#include "attention/conformance_case.h"
#include "tensor/flop_counter.h"

namespace attnscale::conformance {
namespace {

// So long that with the defaults terms of a lower order are about one per cent of the leading one (T block top_blocks
// beside T^2 / block), and a multiple of every usual segment, where states of whole segments are alike.
constexpr double growth_tolerance = 0.02;
constexpr int64_t growth_length = int64_t{256} * 3 * 5 * 7 * 11 * 13;

// Sums over hundreds of positions, of which roundings of 6e-8 partly cancel.
constexpr double long_float32_tolerance = 1e-5;

/// @param condition  `causal`, or `option = value`
bool holds(const std::string& condition, const Case& test) {
  if (condition == "causal") return test.geometry.causal;
  const auto at = condition.find(" = ");
  const auto options = test.variant.resolve(test.options);
  if (at == std::string::npos || !options.contains(condition.substr(0, at)))
    throw std::logic_error(fmt::format("complexity: \"{}\" is neither `causal` nor `option = value`", condition));
  const auto& value = options[condition.substr(0, at)];
  return (value.is_string() ? value.get<std::string>() : value.dump()) == condition.substr(at + 3);
}

/// The part of a formula that speaks of a case: `T k; causal: T^2 / c` has two. The last one that holds.
std::string part_for(const std::string& formula, const Case& test) {
  size_t end = formula.find("; ");
  auto result = formula.substr(0, end);
  while (end != std::string::npos) {
    const size_t begin = end + 2;
    end = formula.find("; ", begin);
    const auto part = formula.substr(begin, end == std::string::npos ? end : end - begin);
    const auto colon = part.find(": ");
    if (colon == std::string::npos)
      throw std::logic_error(fmt::format("complexity: \"{}\" has no condition; write `condition: formula`", part));
    if (holds(part.substr(0, colon), test)) result = part.substr(colon + 2);
  }
  return result;
}

/// log2 of what doubling T from `growth_length` does, by the highest power of T in a formula in plain text.
double declared_exponent(const std::string& formula) {
  const double of_logarithm = std::log2(1 + 1 / std::log2(static_cast<double>(growth_length)));
  double exponent = 0;
  for (size_t at = formula.find('T'); at != std::string::npos; at = formula.find('T', at + 1)) {
    const bool inside_word = (at > 0 && std::isalnum(static_cast<unsigned char>(formula[at - 1]))) ||
                             (at + 1 < formula.size() && std::isalnum(static_cast<unsigned char>(formula[at + 1])));
    if (inside_word) continue;
    const auto rest = formula.substr(at + 1);
    double power = 1;
    if (at >= 4 && formula.substr(at - 4, 4) == "log ") power = of_logarithm;
    else if (rest.starts_with("^")) power = std::stod(rest.substr(1));
    else if (rest.starts_with(" log T")) power += of_logarithm;
    exponent = std::max(exponent, power);
  }
  return exponent;
}

/// Work and state against what the registration says that they grow like.
struct Growth {
  Case test;  // with a context for the lengths below
  Recorder& record;

  Cost cost(int64_t positions) const {
    return test.variant.cost(test.options, test.geometry, {.batch = 1, .queries = positions, .keys = positions});
  }

  /// @param faster_only  less than declared is no fault
  void compare(const std::string& name, const std::string& formula, double from, double to,
               bool faster_only = false) const {
    const double grown = to == 0 ? 0 : std::log2(to / from), declared = declared_exponent(part_for(formula, test));
    record.note(
        name, faster_only ? std::max(0.0, grown - declared) : std::abs(grown - declared), growth_tolerance,
        test.at(growth_length) + fmt::format(", T^{:.3f} by cost, T^{:.3f} by \"{}\"", grown, declared, formula));
  }
};

}  // namespace

void check_growth(const Case& test, Recorder& record) {
  Growth growth{test, record};
  growth.test.geometry.context = 2 * growth_length;
  if (!refusals(test.variant, test.options, growth.test.geometry).empty()) return;
  const auto& variant = test.variant;
  const Cost once = growth.cost(growth_length), twice = growth.cost(2 * growth_length);
  growth.compare("algorithmic_growth", variant.time_complexity, once.algorithmic_flops, twice.algorithmic_flops);
  const bool own = !variant.executed_complexity.empty();
  growth.compare("executed_growth", own ? variant.executed_complexity : variant.time_complexity, once.executed_flops,
                 twice.executed_flops, !own);
  if (variant.traits.contains(Trait::incremental)) {
    if (test.geometry.causal)
      growth.compare("state_growth", variant.state_complexity, static_cast<double>(once.state_bytes),
                     static_cast<double>(twice.state_bytes));
  } else {
    record.note("state_growth", variant.state_complexity != "none" || once.state_bytes != 0, 0,
                test.place() + ", does not decode, but claims a state");
  }
}

void check_long(const Case& test, int64_t length, Recorder& record) {
  const torch::NoGradGuard no_gradients;
  Case longer = test;
  longer.geometry.context = length;
  if (!refusals(longer.variant, longer.options, longer.geometry).empty()) return;
  const auto attention = longer.make(torch::kFloat32);
  const auto inputs = as_leaves(longer.inputs(1, length, length), torch::kFloat32);
  Tensor output;
  double seen = 0;
  {
    const FlopCounter counter;
    output = attention->forward(inputs);
    seen = counter.total();
  }
  const double claimed =
      longer.variant.cost(longer.options, longer.geometry, {.batch = 1, .queries = length, .keys = length})
          .executed_flops;
  record.note("executed_flops", std::abs(seen - claimed), 0,
              longer.at(length) + fmt::format(", S={}, seen {}, claimed {}", length, seen, claimed));
  attention->to(torch::kFloat64);
  const auto exact = attention->forward(as_leaves(inputs, torch::kFloat64));
  const std::string name = "long_float32_distance";
  record.note(name, norm_distance(output, exact, test.outliers(name)), long_float32_tolerance, longer.at(length));
}

}  // namespace attnscale::conformance

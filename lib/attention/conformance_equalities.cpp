// Conformance, fifth theme: a variant that must equal another one. A variant's own registration
// states its equalities (VariantInfo::equalities).

#include <fmt/format.h>

#include "attention/conformance_case.h"

namespace attnscale::conformance {
namespace {

// Float64 on both sides; what differs is the order of sums over at most a few hundred terms.
constexpr double equality_tolerance = 1e-10;

std::vector<Geometry> geometries_for(const Equality& equality) {
  const Geometry base{.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 8, .context = equality.length};
  Geometry unequal = base;
  unequal.value_dim = 7;
  std::vector<Geometry> result = {base, unequal};
  return result;
}

/// Whether the place was one that both can stand at.
bool compare(const VariantInfo& variant, const Equality& equality, Geometry geometry, uint64_t seed, Recorder& record) {
  const auto& other = variant_named(equality.other);
  auto other_geometry = geometry;
  geometry.causal = equality.causal;
  other_geometry.causal = equality.other_causal;
  if (!refusals(variant, equality.options, geometry).empty()) return false;
  if (!refusals(other, equality.other_options, other_geometry).empty()) return false;

  const torch::NoGradGuard no_gradients;
  Case left{variant, equality.options, geometry, {equality.length}, {}};
  left.seed = seed;
  Case right{other, equality.other_options, other_geometry, {equality.length}, {}};
  right.seed = seed;
  constexpr int64_t batch = 2;
  const auto attention = left.make();
  if (equality.prepare) equality.prepare(*attention);
  auto inputs = left.inputs(batch, equality.length, equality.length);
  if (equality.inputs) inputs = equality.inputs(inputs);
  auto output = attention->forward(inputs);  // [B, H, T, E]
  auto expected = right.make()->forward(right.inputs(batch, equality.length, equality.length));
  if (equality.newest_only) {
    output = output.select(2, -1);
    expected = expected.select(2, -1);
  }
  record.note("equals_known", distance(output, expected), equality_tolerance,
              fmt::format("{}, {}", equality.statement, left.at(equality.length)));
  return true;
}

}  // namespace

void check_equalities(const VariantInfo& variant, const ConformanceOptions& options, Recorder& record) {
  for (const auto& equality : variant.equalities) {
    bool stood = false;
    for (const auto& geometry : geometries_for(equality))
      stood = compare(variant, equality, geometry, options.seed, record) || stood;
    if (!stood) record.note("stands", 1, 0, equality.statement + ": refused everywhere");
  }
}

}  // namespace attnscale::conformance

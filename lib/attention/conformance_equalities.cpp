// Conformance, fifth theme: a variant that must equal another one. A variant's own registration
// states its equalities (VariantInfo::equalities).

#include <ATen/ops/randn_like.h>
#include <fmt/format.h>

#include "attention/conformance_case.h"

namespace attnscale::conformance {
namespace {

// Float64 on both sides; what differs is the order of sums over at most a few hundred terms.
constexpr double equality_tolerance = 1e-10;
constexpr double equal_gradient_tolerance = 1e-9;

std::vector<Geometry> geometries_for(const Equality& equality) {
  const Geometry base{.num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .value_dim = 8, .context = equality.length};
  Geometry unequal = base;
  unequal.value_dim = 7;
  std::vector<Geometry> result = {base, unequal};
  return result;
}

/// Gradients to query, key and value (or hidden): to what both sides have, but not to gates, which one side may lack.
void compare_gradients(const Tensor& output, const std::vector<Leaf>& by, const Tensor& expected,
                       const std::vector<Leaf>& other_by, const std::string& where, Recorder& record) {
  torch::manual_seed(8);
  const auto weight = at::randn_like(expected.detach());
  const auto slopes = gradients(output, weight, by), other_slopes = gradients(expected, weight, other_by);
  double scale = 0;  // one for all: a gradient that should vanish is noise
  for (const auto& slope : other_slopes) scale = std::max(scale, largest(slope));
  for (size_t i = 0; i < by.size(); ++i)
    for (size_t j = 0; j < other_by.size(); ++j) {
      if (by[i].name != other_by[j].name || by[i].name.starts_with("gate ")) continue;
      record.note("equal_gradients", largest(slopes[i] - other_slopes[j]) / std::max(scale, 1e-300),
                  equal_gradient_tolerance, where + ", " + by[i].name);
    }
}

/// Whether the place was one that both can stand at.
bool compare(const VariantInfo& variant, const Equality& equality, Geometry geometry, uint64_t seed, Recorder& record) {
  const auto& other = variant_named(equality.other);
  auto other_geometry = geometry;
  geometry.causal = equality.causal;
  other_geometry.causal = equality.other_causal;
  if (!refusals(variant, equality.options, geometry).empty()) return false;
  if (!refusals(other, equality.other_options, other_geometry).empty()) return false;

  Case left{variant, equality.options, geometry, {equality.length}, {}};
  left.seed = seed;
  Case right{other, equality.other_options, other_geometry, {equality.length}, {}};
  right.seed = seed;
  constexpr int64_t batch = 2;
  const auto attention = left.make();
  if (equality.prepare) {
    const torch::NoGradGuard no_gradients;
    equality.prepare(*attention);
  }
  const auto drawn = left.inputs(batch, equality.length, equality.length);
  auto output = attention->forward(equality.inputs ? equality.inputs(drawn) : drawn);  // [B, H, T, E]
  const auto other_drawn = right.inputs(batch, equality.length, equality.length);
  const auto other_attention = right.make();
  auto expected = other_attention->forward(other_drawn);
  if (equality.newest_only) {
    output = output.select(2, -1);
    expected = expected.select(2, -1);
  }
  record.note("equals_known", distance(output, expected), equality_tolerance,
              fmt::format("{}, {}", equality.statement, left.at(equality.length)));
  compare_gradients(output, leaves(drawn), expected, leaves(other_drawn),
                    fmt::format("{}, {}", equality.statement, left.at(equality.length)), record);
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

#include "attention/registry.h"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>

#include "core/nearest.h"

namespace attnscale {
namespace {

std::vector<VariantInfo>& variants() {
  static std::vector<VariantInfo> list;
  return list;
}

/// In reading order. Inside a function, since registrations run before other files' statics are made.
const std::vector<std::string>& families() {
  static const std::vector<std::string> list = {"full", "sparse", "low-rank", "linear", "memory-compressed"};
  return list;
}

int family_rank(const std::string& family) {
  return static_cast<int>(std::find(families().begin(), families().end(), family) - families().begin());
}

}  // namespace

std::string name_of(Trait trait) {
  switch (trait) {
    case Trait::causal:
      return "causal";
    case Trait::bidirectional:
      return "bidirectional";
    case Trait::cross:
      return "cross";
    case Trait::padding:
      return "padding";
    case Trait::incremental:
      return "incremental";
    case Trait::grouped_heads:
      return "grouped_heads";
    case Trait::logit_bias:
      return "logit_bias";
    case Trait::owns_projections:
      return "owns_projections";
    case Trait::content_dependent:
      return "content_dependent";
  }
  return "";
}

const std::vector<VariantInfo>& all_variants() { return variants(); }

void register_variant(VariantInfo info) {
  auto& list = variants();
  if (family_rank(info.family) == std::ssize(families()))
    throw std::logic_error(fmt::format("variant \"{}\" has the unknown family \"{}\"{}", info.name, info.family,
                                       suggestion(info.family, families())));
  if (std::any_of(list.begin(), list.end(), [&](const VariantInfo& v) { return v.name == info.name; }))
    throw std::logic_error(fmt::format("variant \"{}\" is registered twice; give one of them another name", info.name));
  const auto key = [](const VariantInfo& v) { return std::pair(family_rank(v.family), v.name); };
  const auto at = std::lower_bound(list.begin(), list.end(), info,
                                   [&](const VariantInfo& a, const VariantInfo& b) { return key(a) < key(b); });
  list.insert(at, std::move(info));
}

void unregister_variant(const std::string& name) {
  std::erase_if(variants(), [&](const VariantInfo& v) { return v.name == name; });
}

const VariantInfo& variant_named(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& variant : variants()) {
    if (variant.name == name) return variant;
    names.push_back(variant.name);
  }
  throw ConfigError(fmt::format("unknown variant \"{}\"{}", name, suggestion(name, names)));
}

std::vector<std::string> refusals(const VariantInfo& variant, const Json& options, const Geometry& geometry) {
  std::vector<std::string> reasons;
  const auto has = [&](Trait trait) { return variant.traits.contains(trait); };
  if (geometry.num_kv_heads < 1 || geometry.num_heads % geometry.num_kv_heads != 0)
    reasons.push_back(fmt::format("num_kv_heads {} does not divide num_heads {}; take one of its divisors",
                                  geometry.num_kv_heads, geometry.num_heads));
  if (geometry.causal && !has(Trait::causal))
    reasons.push_back(fmt::format("{} has no causal form; it works in bidirectional models", variant.name));
  if (!geometry.causal && !has(Trait::bidirectional)) reasons.push_back(fmt::format("{} is causal only", variant.name));
  if (geometry.num_kv_heads != geometry.num_heads && !has(Trait::grouped_heads))
    reasons.push_back(fmt::format("{} needs as many key-value heads as heads; set model.num_kv_heads to {}",
                                  variant.name, geometry.num_heads));
  for (auto& reason : variant.refusals(options, geometry)) reasons.push_back(std::move(reason));
  return reasons;
}

}  // namespace attnscale

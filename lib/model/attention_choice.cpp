#include "model/attention_choice.h"

#include <algorithm>

#include <fmt/format.h>

#include "attention/registry.h"
#include "core/nearest.h"

namespace attnscale {
namespace {

const VariantInfo* find_variant(const std::string& name) {
  for (const auto& variant : all_variants())
    if (variant.name == name) return &variant;
  return nullptr;
}

std::string unknown_variant(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& variant : all_variants()) names.push_back(variant.name);
  return fmt::format("unknown variant \"{}\"{}", name, suggestion(name, names));
}

/// The variant that a section names; null with a problem recorded when there is none.
const VariantInfo* variant_of(const Json& section, std::vector<Problem>& problems) {
  const Json name = section.contains("variant") ? section["variant"] : Json(AttentionChoice{}.variant);
  if (!name.is_string()) {
    problems.push_back({"attention.variant", fmt::format("received {}, expected a variant's name in quotes; `attnscale "
                                                         "list variants` prints them",
                                                         describe_value(name))});
    return nullptr;
  }
  const auto* variant = find_variant(name.get<std::string>());
  if (variant == nullptr) problems.push_back({"attention.variant", unknown_variant(name.get<std::string>())});
  return variant;
}

/// The multiple of `step` nearest to `width`, at least `step`.
int64_t nearest_multiple(int64_t width, int64_t step) { return std::max<int64_t>(1, (width + step / 2) / step) * step; }

}  // namespace

AttentionChoice read_attention(const Json& section, std::vector<Problem>& problems) {
  AttentionChoice choice;
  if (!section.is_object()) {
    problems.push_back({"attention", fmt::format("received {}, expected an object such as {{\"variant\": \"softmax\"}}",
                                                 describe_value(section))});
    return choice;
  }
  const auto* variant = variant_of(section, problems);
  if (variant == nullptr) return choice;
  choice.variant = variant->name;

  std::vector<std::string> known = {"variant"};
  for (const auto& field : variant->fields) known.push_back(field.name);
  Json accepted = Json::object();
  for (const auto& [key, value] : section.items()) {
    if (key == "variant") continue;
    const auto path = join_path("attention", key);
    const auto field = std::find_if(variant->fields.begin(), variant->fields.end(),
                                    [name = key](const Field& f) { return f.name == name; });
    if (field == variant->fields.end())
      problems.push_back({path, fmt::format("unknown key for {}{}", variant->name, suggestion(key, known))});
    else if (const auto problem = field->problem_with(value); !problem.empty()) problems.push_back({path, problem});
    else accepted[key] = value;
  }
  choice.options = variant->resolve(accepted);
  return choice;
}

Json write_attention(const AttentionChoice& choice) {
  Json section = {{"variant", choice.variant}};
  for (const auto& [key, value] : choice.options.items()) section[key] = value;
  return section;
}

Geometry attention_geometry(const ModelOptions& options, int64_t context, int64_t layer) {
  const int64_t head_dim = options.model_dim / options.num_heads;
  return {.num_heads = options.num_heads,
          .num_kv_heads = options.num_kv_heads.value(),
          .head_dim = head_dim,
          .value_dim = head_dim,
          .context = context,
          .causal = true,
          .layer = layer,
          .depth = options.depth,
          .model_dim = options.model_dim};
}

std::vector<Problem> model_problems(const ModelOptions& options, const AttentionChoice& attention, int64_t context) {
  std::vector<Problem> problems;
  const bool rotary = options.position == "rotary";
  const int64_t step = rotary ? 2 * options.num_heads : options.num_heads;
  if (context < 1)
    problems.push_back({"data.context", fmt::format("received {}, expected at least one position", context)});
  if (options.model_dim % options.num_heads != 0)
    problems.push_back({"model.num_heads",
                        fmt::format("num_heads {} does not divide model_dim {}; the nearest model_dim "
                                    "that works is {}",
                                    options.num_heads, options.model_dim, nearest_multiple(options.model_dim, step))});
  else if (rotary && options.model_dim % step != 0)
    problems.push_back({"model.position",
                        fmt::format("rotary turns pairs of numbers, so the head width must be even, and model_dim {} / "
                                    "num_heads {} is {}; the nearest model_dim that works is {}",
                                    options.model_dim, options.num_heads, options.model_dim / options.num_heads,
                                    nearest_multiple(options.model_dim, step))});
  const int64_t num_kv_heads = options.num_kv_heads.value();
  if (options.num_heads % num_kv_heads != 0)
    problems.push_back(
        {"model.num_kv_heads", fmt::format("num_kv_heads {} does not divide num_heads {}; take one of its "
                                           "divisors",
                                           num_kv_heads, options.num_heads)});
  const auto* variant = find_variant(attention.variant);
  if (variant == nullptr) problems.push_back({"attention.variant", unknown_variant(attention.variant)});
  // A variant's reasons mean something only where its geometry does.
  if (!problems.empty()) return problems;

  if (rotary && variant->traits.contains(Trait::owns_projections))
    problems.push_back(
        {"model.position",
         fmt::format("{} makes its own queries and keys, which model.position \"rotary\" would not reach; "
                     "set model.position to \"none\", \"learned\" or \"sinusoidal\"",
                     variant->name)});
  std::vector<std::string> told;
  for (int64_t layer = 0; layer < options.depth; ++layer)
    for (const auto& reason : refusals(*variant, attention.options, attention_geometry(options, context, layer)))
      if (std::find(told.begin(), told.end(), reason) == told.end()) {
        problems.push_back({"attention.variant", reason});
        told.push_back(reason);
      }
  return problems;
}

}  // namespace attnscale

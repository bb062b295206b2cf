#include "model/attention_choice.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "attention/registry.h"
#include "core/nearest.h"
#include "model/idle_options.h"
#include "model/initialisation.h"
#include "model/position_bias.h"

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
const VariantInfo* variant_of(const Json& section, const std::string& path, std::vector<Problem>& problems) {
  const Json name = section.contains("variant") ? section["variant"] : Json(AttentionChoice{}.variant);
  if (!name.is_string()) {
    problems.push_back({path + ".variant", fmt::format("received {}, expected a variant's name in quotes; `attnscale "
                                                       "list variants` prints them",
                                                       describe_value(name))});
    return nullptr;
  }
  const auto* variant = find_variant(name.get<std::string>());
  if (variant == nullptr) problems.push_back({path + ".variant", unknown_variant(name.get<std::string>())});
  return variant;
}

/// Reads `{variant, options}` that stands at `path`.
AttentionChoice read_choice(const Json& section, const std::string& path, std::vector<Problem>& problems) {
  AttentionChoice choice;
  if (!section.is_object()) {
    problems.push_back({path, fmt::format("received {}, expected an object such as {{\"variant\": \"softmax\"}}",
                                          describe_value(section))});
    return choice;
  }
  const auto* variant = variant_of(section, path, problems);
  if (variant == nullptr) return choice;
  choice.variant = variant->name;

  std::vector<std::string> known = {"variant"};
  for (const auto& field : variant->fields) known.push_back(field.name);
  Json accepted = Json::object();
  for (const auto& [key, value] : section.items()) {
    if (key == "variant") continue;
    const auto place = join_path(path, key);
    const auto field = std::find_if(variant->fields.begin(), variant->fields.end(),
                                    [name = key](const Field& f) { return f.name == name; });
    if (field == variant->fields.end())
      problems.push_back({place, fmt::format("unknown key for {}{}", variant->name, suggestion(key, known))});
    else if (const auto problem = field->problem_with(value); !problem.empty()) problems.push_back({place, problem});
    else accepted[key] = value;
  }
  choice.options = variant->resolve(accepted);
  return choice;
}

/// The multiple of `step` nearest to `width`, at least `step`.
int64_t nearest_multiple(int64_t width, int64_t step) { return std::max<int64_t>(1, (width + step / 2) / step) * step; }

}  // namespace

AttentionChoice read_attention(const Json& section, std::vector<Problem>& problems) {
  return read_choice(section, "attention", problems);
}

Json write_attention(const AttentionChoice& choice) {
  Json section = {{"variant", choice.variant}};
  for (const auto& [key, value] : choice.options.items()) section[key] = value;
  return section;
}

void read_layers(const Json& list, bool attention_given, AttentionChoice& attention, std::vector<Problem>& problems) {
  if (!list.is_array() || list.empty()) {
    problems.push_back({"model.layers", fmt::format("received {}, expected a list of variants such as "
                                                    "[\"sliding_window\", \"softmax\"], repeated over the depth",
                                                    list == Json::array() ? "an empty list" : describe_value(list))});
    return;
  }
  std::vector<AttentionChoice> layers;
  for (size_t i = 0; i < list.size(); ++i) {
    const auto& entry = list[i];
    // Elsewhere a section without a variant has the default one; in a list of variants that would be a slip.
    if (!entry.is_string() && !(entry.is_object() && entry.contains("variant"))) {
      problems.push_back(
          {fmt::format("model.layers[{}]", i),
           fmt::format("received {}, expected a variant's name, or an object with \"variant\" and its options",
                       describe_value(entry))});
      return;
    }
    if (attention_given && entry == attention.variant) layers.push_back({attention.variant, attention.options, {}});
    else
      layers.push_back(read_choice(entry.is_string() ? Json{{"variant", entry}} : entry,
                                   fmt::format("model.layers[{}]", i), problems));
  }
  const auto same = [&](const AttentionChoice& layer) {
    return layer.variant == attention.variant && layer.options == attention.options;
  };
  if (attention_given && std::none_of(layers.begin(), layers.end(), same)) {
    problems.push_back({"attention.variant", fmt::format("{} with these options is in no entry of model.layers, so "
                                                         "nothing would use it; name it there or leave attention out",
                                                         attention.variant)});
    return;
  }
  if (!attention_given) attention = layers.front();
  attention.layers = std::move(layers);
}

Json write_layers(const AttentionChoice& attention) {
  Json list = Json::array();
  for (const auto& layer : attention.layers) list.push_back(write_attention(layer));
  return list;
}

const AttentionChoice& at_layer(const AttentionChoice& attention, int64_t layer) {
  if (attention.layers.empty()) return attention;
  return attention.layers[static_cast<size_t>(layer) % attention.layers.size()];
}

std::string label_of(const AttentionChoice& attention) {
  if (attention.layers.empty()) return attention.variant;
  std::string label;
  for (size_t i = 0; i < attention.layers.size();) {
    size_t end = i;
    while (end < attention.layers.size() && attention.layers[end].variant == attention.layers[i].variant) ++end;
    if (i > 0) label += '+';
    label += attention.layers[i].variant;
    if (end - i > 1) label += fmt::format("*{}", end - i);
    i = end;
  }
  return label;
}

Sizes attention_sizes(const ModelOptions& options, int64_t context, int64_t batch, StackPlace place) {
  if (options.head != "encoder_decoder") return {.batch = batch, .queries = context, .keys = context};
  const int64_t read = options.input_length.value(), written = num_outputs(options, context);
  return {.batch = batch,
          .queries = place == StackPlace::encoder ? read : written,
          .keys = place == StackPlace::main ? written : read};
}

Geometry attention_geometry(const ModelOptions& options, int64_t context, int64_t layer, StackPlace place) {
  const int64_t head_dim = options.model_dim / options.num_heads;
  const auto sizes = attention_sizes(options, context, 1, place);
  return {.num_heads = options.num_heads,
          .num_kv_heads = options.num_kv_heads.value(),
          .head_dim = head_dim,
          .value_dim = head_dim,
          .context = std::max(sizes.queries, sizes.keys),
          .causal = place == StackPlace::main && options.causal.value(),
          .layer = layer,
          .depth = place == StackPlace::encoder ? options.encoder_depth.value() : options.depth,
          .model_dim = options.model_dim};
}

int64_t rotary_width(const ModelOptions& options, int64_t parts) {
  const int64_t part = options.model_dim / options.num_heads / parts;
  return std::llround(options.rotary_share * static_cast<double>(part));
}

namespace {

/// Why a variant's heads cannot be turned by rotary positions, with what would work; empty when they can.
std::string no_rotary(const VariantInfo& variant, const ModelOptions& options) {
  if (variant.rotary_parts == 0)
    return fmt::format("{}; set model.position to \"none\", \"learned\" or \"sinusoidal\"", variant.no_rotary);
  const int64_t width = options.model_dim / options.num_heads, step = 2 * variant.rotary_parts;
  if (width % step == 0) {
    const int64_t part = width / variant.rotary_parts, turned = rotary_width(options, variant.rotary_parts);
    const int64_t least = options.rotary_scaling == "ntk" ? 4 : 2;
    const double share = options.rotary_share * static_cast<double>(part);
    if (std::abs(share - static_cast<double>(turned)) < 1e-6 && turned % 2 == 0 && turned >= least) return "";
    return fmt::format("rotary_share {} of {} numbers is {:.4g}; expected an even number, at least {}: take {:.6g}",
                       options.rotary_share, part, share, least,
                       static_cast<double>(std::max(least, turned / 2 * 2)) / static_cast<double>(part));
  }
  return fmt::format(
      "rotary turns pairs of numbers in each of the {} parts of {}'s heads, so the head width must be a multiple of "
      "{}, "
      "and model_dim {} / num_heads {} is {}; the nearest model_dim that works is {}",
      variant.rotary_parts, variant.name, step, options.model_dim, options.num_heads, width,
      nearest_multiple(options.model_dim, step * options.num_heads));
}

}  // namespace

namespace {

/// Name of a parameter of the variant's own, with two axes or more, that a wider head makes larger; empty: none. Built
/// for heads of 16 and 32 numbers, so that no model's size is allocated; of the head's own width and twice that where
/// the variant refuses 16.
std::string own_matrix(const VariantInfo& variant, const Json& options, Geometry geometry) {
  if (!refusals(variant, options, geometry).empty()) return "";  // said elsewhere
  const auto of_width = [&](int64_t width) {
    auto other = geometry;
    other.head_dim = other.value_dim = width;
    other.model_dim = width * geometry.num_heads;
    return other;
  };
  if (refusals(variant, options, of_width(16)).empty()) geometry = of_width(16);
  const auto wide = of_width(2 * geometry.head_dim);
  const bool comparable = refusals(variant, options, wide).empty();
  const DefaultSeed guard(0);
  const auto narrow_one = variant.make(options, geometry);
  const auto wide_one = comparable ? variant.make(options, wide) : nullptr;
  for (const auto& item : narrow_one->named_parameters()) {
    if (item.value().dim() < 2) continue;
    if (!wide_one || wide_one->named_parameters()[item.key()].sizes() != item.value().sizes()) return item.key();
  }
  return "";
}

std::vector<std::string> names_with(Trait trait) {
  std::vector<std::string> names;
  for (const auto& variant : all_variants())
    if (variant.traits.contains(trait)) names.push_back(variant.name);
  return names;
}

}  // namespace

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
  const bool crossed = options.head == "encoder_decoder";
  if (crossed && (!options.input_length || *options.input_length > context))
    problems.push_back({"model.input_length",
                        options.input_length
                            ? fmt::format("{} tokens leave none of a context of {} to the decoder; take at most {}",
                                          *options.input_length, context, context)
                            : std::string("is needed by head encoder_decoder; give it")});
  const auto length = std::ssize(attention.layers);
  if (length > options.depth)
    problems.push_back(
        {"model.layers",
         fmt::format("{} entries, but depth is {}; take at most as many entries as layers", length, options.depth)});
  // A variant's reasons mean something only where its geometry does.
  const bool misshapen = !problems.empty();
  for (auto& problem : idle_options(options)) problems.push_back(std::move(problem));
  if (misshapen) return problems;

  const std::string path = attention.layers.empty() ? "attention.variant" : "model.layers";
  const auto tell = [&](const std::string& where, const std::string& reason) {
    const auto same = [&](const Problem& p) { return p.path == where && p.message == reason; };
    if (std::none_of(problems.begin(), problems.end(), same)) problems.push_back({where, reason});
  };
  for (int64_t layer = 0; layer < options.depth; ++layer) {
    const auto& choice = at_layer(attention, layer);
    const auto* variant = find_variant(choice.variant);
    if (variant == nullptr) {
      tell(path, unknown_variant(choice.variant));
      continue;
    }
    if (rotary && variant->traits.contains(Trait::owns_projections))
      tell("model.position",
           fmt::format("{} makes its own queries and keys, which model.position \"rotary\" would not reach; "
                       "set model.position to \"none\", \"learned\" or \"sinusoidal\"",
                       variant->name));
    else if (const auto reason = rotary ? no_rotary(*variant, options) : ""; !reason.empty())
      tell("model.position", reason);
    if (has_logit_bias(options) && !variant->traits.contains(Trait::logit_bias))
      tell("model.position",
           fmt::format("{} has no logits that {} positions could be added to; variants that have: {}; or set "
                       "model.position to \"none\", \"learned\" or \"sinusoidal\"",
                       variant->name, options.position, fmt::join(names_with(Trait::logit_bias), ", ")));
    if (options.logit_scale != "root" && !variant->traits.contains(Trait::logit_bias))
      tell("model.logit_scale", fmt::format("{} has no logits to scale; variants that have: {}; leave it out",
                                            variant->name, fmt::join(names_with(Trait::logit_bias), ", ")));
    if (options.mup_base_dim && variant->traits.contains(Trait::owns_projections))
      tell(
          "model.mup_base_dim",
          fmt::format("{} makes its own projections, which would stay as in the standard parametrisation; leave it out",
                      variant->name));
    else if (options.mup_base_dim && layer < std::max<int64_t>(1, length))
      if (const auto matrix = own_matrix(*variant, choice.options, attention_geometry(options, context, layer));
          !matrix.empty())
        tell("model.mup_base_dim",
             fmt::format("{} has a matrix of its own, {}, that grows with the head width and would stay as in the "
                         "standard parametrisation; leave it out",
                         variant->name, matrix));
    if (options.qk_norm != "none" && variant->traits.contains(Trait::owns_projections))
      tell("model.qk_norm",
           fmt::format("{} makes its own queries and keys, which model.qk_norm would not reach; leave it out",
                       variant->name));
    for (const auto& reason : refusals(*variant, choice.options, attention_geometry(options, context, layer)))
      tell(path, reason);
    if (!crossed) continue;
    if (!variant->traits.contains(Trait::cross))
      tell(path,
           fmt::format("{} has no form for queries of another sequence, which head encoder_decoder needs; variants "
                       "that have: {}",
                       variant->name, fmt::join(names_with(Trait::cross), ", ")));
    else
      for (const auto& reason :
           refusals(*variant, choice.options, attention_geometry(options, context, layer, StackPlace::cross)))
        tell(path, reason);
  }
  for (int64_t layer = 0; crossed && layer < *options.encoder_depth; ++layer)
    if (const auto* variant = find_variant(at_layer(attention, layer).variant))
      for (const auto& reason : refusals(*variant, at_layer(attention, layer).options,
                                         attention_geometry(options, context, layer, StackPlace::encoder)))
        tell(path, reason);
  return problems;
}

}  // namespace attnscale

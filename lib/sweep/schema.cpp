#include "sweep/schema.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "attention/registry.h"
#include "core/claim.h"
#include "core/options.h"
#include "data/registry.h"
#include "sweep/match.h"
#include "sweep/spec_groups.h"
#include "sweep/stopping.h"
#include "train/run_config.h"

namespace attnscale {
namespace {

/// Options may be derived: a text such as "= 4 * model_dim" in place of a number.
void allow_derived(Json& options) {
  for (auto& [key, property] : options["properties"].items()) {
    if (!property.contains("type") || property["type"] == "string") continue;
    Json description = property["description"];
    property.erase("description");
    property = {{"description", description}, {"anyOf", {property, {{"type", "string"}, {"pattern", "^="}}}}};
  }
}

/// A section whose other keys depend on the name under `selector`.
template <class Infos>
Json tagged_union(const std::string& selector, const Infos& infos, const Json& shared_properties) {
  Json alternatives = Json::array();
  Json names = Json::array();
  for (const auto& info : infos) {
    Json schema = schema_of(info.fields);
    allow_derived(schema);
    schema["properties"][selector] = {{"const", info.name}};
    for (const auto& [key, value] : shared_properties.items()) schema["properties"][key] = value;
    schema["description"] = info.summary;
    schema["required"] = Json::array({selector});
    names.push_back(info.name);
    alternatives.push_back(std::move(schema));
  }
  return {{"type", "object"}, {"oneOf", std::move(alternatives)}};
}

Json axis_schema() {
  const Json ends = {{"type", "array"}, {"items", {{"type", "number"}}}, {"minItems", 2}, {"maxItems", 2}};
  return {{"description",
           "a list of values, or a range {\"log\" or \"linear\": [low, high], \"points\": n, \"multiple_of\": m}"},
          {"oneOf",
           {{{"type", "array"}, {"minItems", 1}},
            {{"type", "object"},
             {"properties",
              {{"log", ends},
               {"linear", ends},
               {"points", {{"type", "integer"}, {"minimum", 2}}},
               {"multiple_of", {{"type", "integer"}, {"minimum", 1}}}}},
             {"required", {"points"}},
             {"additionalProperties", false}}}}};
}

Json axes_schema(const char* doc) {
  return {{"type", "object"},
          {"description", doc},
          {"propertyNames", {{"pattern", "^(model|attention|data|train)(\\.|$)"}}},
          {"additionalProperties", axis_schema()}};
}

}  // namespace

Json spec_schema() {
  Json train = schema_of(TrainOptions::fields());
  Json context = schema_of(
      {field(&DataChoice::context, "context", "positions of a window: inputs per sequence").between(1, 1 << 20)});
  allow_derived(context);
  allow_derived(train);
  const auto attention = tagged_union("variant", all_variants(), Json::object());
  Json model = schema_of(ModelOptions::fields());
  allow_derived(model);
  model["properties"]["layers"] = {
      {"type", "array"},
      {"minItems", 1},
      {"description", "a hybrid: variants by layer, repeated over the depth; names or {variant, options}"},
      {"items", {{"oneOf", {Json{{"type", "string"}}, Json{{"type", "object"}, {"required", {"variant"}}}}}}}};
  const Json base = {{"type", "object"},
                     {"description", "the config that every run shares; what is left out has its default"},
                     {"properties",
                      {{"model", model},
                       {"attention", attention},
                       {"data", tagged_union("source", all_sources(), context["properties"])},
                       {"train", train}}},
                     {"additionalProperties", false}};
  const Json zip = axes_schema("lists that are walked together");
  const Json random_range = {{"type", "object"},
                             {"properties",
                              {{"log", {{"type", "array"}}},
                               {"linear", {{"type", "array"}}},
                               {"choice", {{"type", "array"}, {"minItems", 1}}},
                               {"multiple_of", {{"type", "integer"}, {"minimum", 1}}}}},
                             {"additionalProperties", false}};
  Json schema = {
      {"$schema", "https://json-schema.org/draft/2020-12/schema"},
      {"title", "attnscale spec"},
      {"type", "object"},
      {"properties",
       {{"$schema", {{"type", "string"}}},
        {"name",
         {{"type", "string"},
          {"pattern", "^[A-Za-z0-9_-][A-Za-z0-9._-]*$"},
          {"description", "names the output folder"}}},
        {"description", {{"type", "string"}}},
        {"base", base},
        {"grid", axes_schema("axes that multiply: path -> values")},
        {"zip", {{"oneOf", {zip, {{"type", "array"}, {"items", zip}}}}}},
        {"random",
         {{"type", "object"},
          {"properties",
           {{"samples", {{"type", "integer"}, {"minimum", 1}}},
            {"seed", {{"type", "integer"}, {"minimum", 0}}},
            {"axes", {{"type", "object"}, {"additionalProperties", random_range}}}}},
          {"required", {"samples", "axes"}},
          {"additionalProperties", false}}},
        {"match", Match::schema()},
        {"stopping", StoppingRule::schema()},
        {"exclude",
         {{"description",
           "runs for which a condition over their config holds are left out: \"depth > 4 and model_dim < 64\""},
          {"oneOf", {{{"type", "string"}}, {{"type", "array"}, {"items", {{"type", "string"}}}}}}}},
        {"claims",
         {{"description", "what the sweep is to decide: `attnscale verdict` says whether it holds, with intervals"},
          {"type", "array"},
          {"items", Claim::schema()}}},
        {"seeds",
         {{"description", "how many seeds, or which"},
          {"oneOf",
           {{{"type", "integer"}, {"minimum", 1}},
            {{"type", "array"}, {"items", {{"type", "integer"}, {"minimum", 0}}}, {"minItems", 1}}}}}}}},
      {"additionalProperties", false}};
  schema["properties"]["include"] = {
      {"description", "specs that lie beneath this one; paths relative to this file's folder"},
      {"oneOf", {{{"type", "string"}}, {{"type", "array"}, {"items", {{"type", "string"}}}}}}};
  Json of_group = Json::object();
  for (const auto& key : group_keys()) of_group[key] = {{"$ref", "#/properties/" + key}};
  schema["properties"]["groups"] = {
      {"type", "object"},
      {"minProperties", 1},
      {"description", "name -> keys that lie above those beside it; the runs of all groups together are the sweep"},
      {"propertyNames", {{"pattern", "^[A-Za-z0-9_-]+$"}}},
      {"additionalProperties", {{"type", "object"}, {"properties", of_group}, {"additionalProperties", false}}}};
  return schema;
}

std::string options_markdown() {
  std::string text = "### `model`\n\n" + table_of(ModelOptions::fields());
  text += "\n### `train`\n\n" + table_of(TrainOptions::fields());
  text += "\n### `stopping`, beside `base`\n\n" + StoppingRule::options_table();
  for (const auto& variant : all_variants())
    text += fmt::format("\n### `attention` with `\"variant\": \"{}\"`\n\n{}", variant.name,
                        variant.fields.empty() ? "No options of its own.\n" : table_of(variant.fields));
  for (const auto& source : all_sources())
    text += fmt::format("\n### `data` with `\"source\": \"{}\"`\n\n{}", source.name, table_of(source.fields));
  return text;
}

std::string families_markdown() {
  std::string text = "| family | variants |\n|---|---|";
  std::string family;
  for (const auto& v : all_variants()) {
    if (v.family == family) text += fmt::format(", `{}`", v.name);
    else text += fmt::format("{}\n| {} | `{}`", family.empty() ? "" : " |", v.family, v.name);
    family = v.family;
  }
  return text + " |\n";
}

std::string variants_markdown() {
  std::string text = "| family | variant | what it does | time | decode state | source |\n|---|---|---|---|---|---|\n";
  for (const auto& v : all_variants())
    text += fmt::format("| {} | `{}` | {} | {} | {} | {} |\n", v.family, v.name, v.summary, v.time_complexity,
                        v.state_complexity, v.source);
  return text;
}

std::string sources_markdown() {
  std::string text = "| source | what it is | from |\n|---|---|---|\n";
  for (const auto& s : all_sources()) text += fmt::format("| `{}` | {} | {} |\n", s.name, s.summary, s.source);
  return text;
}

}  // namespace attnscale

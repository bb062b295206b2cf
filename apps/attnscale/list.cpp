#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "attention/registry.h"
#include "commands.h"
#include "core/nearest.h"
#include "core/table.h"
#include "data/registry.h"

namespace attnscale {
namespace {

Json trait_names(const VariantInfo& variant) {
  Json names = Json::array();
  for (const auto trait : variant.traits) names.push_back(name_of(trait));
  return names;
}

Json variant_json(const VariantInfo& variant) {
  Json json = {{"name", variant.name},
               {"family", variant.family},
               {"source", variant.source},
               {"traits", trait_names(variant)},
               {"options", describe_fields(variant.fields)},
               {"summary", variant.summary},
               {"equation", variant.equation},
               {"time", variant.time_complexity},
               {"state", variant.state_complexity}};
  if (!variant.executed_complexity.empty()) json["executed"] = variant.executed_complexity;
  return json;
}

std::string options_text(const Fields& fields) {
  if (fields.empty()) return "no options of its own\n";
  Table table;
  for (const auto* title : {"option", "default", "expected", "meaning"}) table.add_column(title);
  for (const auto& field : fields)
    table.add_row({field.name, field.default_value.is_null() ? "derived" : field.default_value.dump(), field.expected(),
                   field.unit.empty() ? field.doc : fmt::format("{} ({})", field.doc, field.unit)});
  return table.text(400);
}

ExitCode list(const std::string& what, bool json) {
  if (json) {
    Json entries = Json::array();
    if (what == "variants")
      for (const auto& variant : all_variants()) entries.push_back(variant_json(variant));
    else
      for (const auto& source : all_sources()) entries.push_back(describe_source(source));
    print_json(entries);
    return ExitCode::done;
  }
  Table table;
  if (what == "variants") {
    for (const auto* title : {"family", "variant", "time", "decode state", "what it does"}) table.add_column(title);
    for (const auto& v : all_variants())
      table.add_row({v.family, v.name, v.time_complexity, v.state_complexity, v.summary});
  } else {
    for (const auto* title : {"source", "what it is"}) table.add_column(title);
    for (const auto& s : all_sources()) table.add_row({s.name, s.summary});
  }
  print(table.text(::isatty(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 1000));
  return ExitCode::done;
}

ExitCode describe(const std::string& name, bool json) {
  for (const auto& source : all_sources())
    if (source.name == name) {
      if (json) print_json(describe_source(source));
      else
        print(fmt::format("{}: {}\nfrom: {}\nasked for: {}\n\n{}", source.name, source.summary, source.source,
                          fmt::join(source.heads, ", "), options_text(source.fields)));
      return ExitCode::done;
    }
  std::vector<std::string> names;
  for (const auto& source : all_sources()) names.push_back(source.name);
  for (const auto& variant : all_variants()) {
    if (variant.name != name) {
      names.push_back(variant.name);
      continue;
    }
    if (json) {
      print_json(variant_json(variant));
      return ExitCode::done;
    }
    Json example = {{"variant", variant.name}};
    for (const auto& field : variant.fields)
      if (!field.optional) example[field.name] = field.default_value;
    print(fmt::format(
        "{} ({}): {}\n\n{}\n\nfrom: {}\ntime: {}{}   decode state: {}\ntraits: {}\n\n{}\nin a spec: \"attention\": "
        "{}\n",
        variant.name, variant.family, variant.summary, variant.equation, variant.source, variant.time_complexity,
        variant.executed_complexity.empty() ? "" : " (executed: " + variant.executed_complexity + ")",
        variant.state_complexity, fmt::join(trait_names(variant).get<std::vector<std::string>>(), ", "),
        options_text(variant.fields), example.dump()));
    return ExitCode::done;
  }
  throw Error(fmt::format("unknown variant or source \"{}\"{}", name, suggestion(name, names)), ExitCode::usage);
}

}  // namespace

void add_list(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("list", "Lists the attention variants or the data sources");
  auto what = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("what", *what, "variants or sources")->required()->check(CLI::IsMember({"variants", "sources"}));
  command->add_flag("--json", *json, "one JSON document on standard output");
  command->footer("Example: attnscale list variants");
  command->callback([=, &action] { action = [=] { return list(*what, *json); }; });
}

void add_describe(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("describe", "Says what a variant or source is, with its options");
  auto name = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("name", *name, "name of a variant or source")->required();
  command->add_flag("--json", *json, "one JSON document on standard output");
  command->footer("Example: attnscale describe sliding_window");
  command->callback([=, &action] { action = [=] { return describe(*name, *json); }; });
}

}  // namespace attnscale

#include "sweep/schema.h"

#include "commands.h"

namespace attnscale {

void add_schema(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("schema", "Prints the JSON Schema of a spec, for editors");
  command->footer("Example: attnscale schema > experiments/spec.schema.json");
  command->callback([&action] {
    action = [] {
      print_json(spec_schema());
      return ExitCode::done;
    };
  });
}

void add_docs(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("docs", "Prints the generated tables of the documentation as Markdown");
  auto what = std::make_shared<std::string>();
  command->add_option("what", *what, "options, variants, families or sources")
      ->required()
      ->check(CLI::IsMember({"options", "variants", "families", "sources"}));
  command->footer("Example: attnscale docs options");
  command->callback([=, &action] {
    action = [=] {
      print(*what == "options"    ? options_markdown()
            : *what == "variants" ? variants_markdown()
            : *what == "families" ? families_markdown()
                                  : sources_markdown());
      return ExitCode::done;
    };
  });
}

}  // namespace attnscale

#include <iostream>

#include "commands.h"
#include "core/files.h"
#include "report/drawing.h"
#include "report/vega_engine.h"

namespace attnscale {

void add_draw(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("draw", "Draws any number of a sweep's runs against any other, as an SVG file");
  auto folder = std::make_shared<std::string>(), out = std::make_shared<std::string>();
  auto drawing = std::make_shared<Drawing>();
  command->add_option("dir", *folder, "folder of a sweep")->required();
  const auto formula = [&](const char* name, std::string& into, const char* doc) {
    return command->add_option(name, into, doc)->type_name("FORMULA");
  };
  formula("--y", drawing->y, "what is drawn: a column, a formula, or a list of numbers")->capture_default_str();
  formula("--x", drawing->x, "against what; of a list left out: the items' places");
  formula("--by", drawing->by, "a curve for each value of this");
  formula("--panel", drawing->panel, "a panel for each value of this");
  command->add_option("--where", drawing->where, "only runs for which this holds")->type_name("CONDITION");
  command->add_option("--x-title", drawing->x_title, "of the axis (default: the formula)");
  command->add_option("--y-title", drawing->y_title, "likewise");
  command->add_flag("--log-x", drawing->log_x, "logarithmic axis");
  command->add_flag("--log-y", drawing->log_y, "likewise");
  command->add_option("--out", *out, "the file to write")->required();
  command->footer(
      "Example: attnscale draw results/norm-placement --y 'first(blocks.gradient_norm)' --by norm_placement --panel "
      "depth\n"
      "         --log-y --out gradients.svg\n"
      "Points are means over runs, bars go from the lowest to the highest. Formulas are those of `attnscale runs`.");
  command->callback([=, &action] {
    action = [=] {
      const auto table = RunTable::read(*folder);
      const auto figure = drawing_of(table, *drawing);
      if (const auto left_out = left_out_of(table, *drawing); !left_out.empty()) std::cerr << left_out << "\n";
      write_file_atomically(*out, VegaEngine().svg(figure.spec, figure_theme(false)));
      return ExitCode::done;
    };
  });
}

}  // namespace attnscale

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/json_paths.h"
#include "core/table.h"
#include "scaling/optimum.h"

namespace attnscale {
namespace {

std::string with_bounds(const Json& number, const char* format) {
  auto text = fmt::format(fmt::runtime(format), number["value"].get<double>());
  if (number.contains("low"))
    text += fmt::format(fmt::runtime(fmt::format(" [{0}, {0}]", format)), number["low"].get<double>(),
                        number["high"].get<double>());
  return text;
}

}  // namespace

std::string name_of_setting(const Json& by) {
  std::vector<std::string> parts;
  for (const auto& [path, value] : by.items())
    parts.push_back(
        fmt::format("{} = {}", last_part(path), value.is_string() ? value.get<std::string>() : value.dump()));
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string optimum_text(const Json& report) {
  const auto of = last_part(report["of"].get<std::string>());
  Table table;
  for (const auto& path : report["by"]) table.add_column(last_part(path.get<std::string>()));
  if (report.contains("along")) table.add_column(last_part(report["along"].get<std::string>()), Table::right);
  for (const auto& title : {"best " + of, std::string("loss there"), std::string("sensitivity"), std::string("seeds")})
    table.add_column(title, Table::right);
  for (const auto& setting : report["settings"]) {
    std::vector<std::string> cells;
    for (const auto& [path, value] : setting["by"].items())
      cells.push_back(value.is_string() ? value.get<std::string>() : value.dump());
    if (setting.contains("along")) cells.push_back(fmt::format("{}", setting["along"].get<double>()));
    const auto edge = setting.value("edge", "");
    cells.push_back((edge == "low" ? "<= " : edge == "high" ? ">= " : "") + with_bounds(setting["optimum"], "{:.3g}"));
    cells.push_back(with_bounds(setting["loss"], "{:.4f}"));
    cells.push_back(with_bounds(setting["sensitivity"], "{:.3f}"));
    cells.push_back(setting["seeds"].dump());
    table.add_row(std::move(cells));
  }
  auto text = table.text(200) + "\n";
  for (const auto& shift : report["shifts"]) {
    const auto name = name_of_setting(shift["by"]);
    text += fmt::format("{}{}the best {} moves by {}{} octaves from {} {} to {}\n", name, name.empty() ? "" : ": ", of,
                        shift.contains("bounds") ? shift["bounds"].get<std::string>() + " " : "",
                        with_bounds(shift["octaves"], "{:+.2f}"), last_part(report["along"].get<std::string>()),
                        shift["from"].get<double>(), shift["to"].get<double>());
  }
  for (const auto& difference : report["differences"])
    text += (difference.contains("along") ? fmt::format("{} {}: ", last_part(report["along"].get<std::string>()),
                                                        difference["along"].get<double>())
                                          : "") +
            difference["verdict"].get<std::string>() + "\n";
  for (const auto& note : report["notes"]) text += "note: " + note.get<std::string>() + "\n";
  return text;
}

}  // namespace attnscale

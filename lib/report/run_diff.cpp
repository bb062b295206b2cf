#include "report/run_diff.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "core/files.h"
#include "core/json_paths.h"
#include "core/table.h"
#include "report/sweep_data.h"
#include "report/text.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

Json without(Json object, std::initializer_list<const char*> keys) {
  for (const auto* key : keys) object.erase(key);
  return object;
}

Json read_object(const fs::path& file) {
  if (!fs::exists(file)) return Json::object();
  auto value = read_json(file).value;
  if (!value.is_object())
    throw DataError(fmt::format("{}: received {}, expected an object", file.string(), describe_value(value)));
  return value;
}

std::string shown(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  if (value.is_string()) return readable(value.get<std::string>());
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// The second less the first, where both are numbers.
std::string change(const Json& pair) {
  if (!pair[0].is_number() || !pair[1].is_number()) return "";
  const double first = pair[0].get<double>(), by = pair[1].get<double>() - first;
  return fmt::format("{:+.4g}{}", by, first != 0 ? fmt::format(" ({:+.1f} %)", 100 * by / std::abs(first)) : "");
}

}  // namespace

int64_t first_difference_of_logs(const fs::path& first, const fs::path& second) {
  const auto a = read_file(first), b = read_file(second);
  if (a == b) return -1;
  const auto at = static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
  const auto& longer = a.size() > at ? a : b;
  const auto begin = at == 0 ? 0 : longer.rfind('\n', at - 1) + 1;  // npos + 1 is 0
  const auto row = Json::parse(longer.substr(begin, longer.find('\n', begin) - begin), nullptr, false);
  return row.is_object() && row.contains("step") && row["step"].is_number_integer() ? row["step"].get<int64_t>() : 0;
}

Json run_diff(const fs::path& first, const fs::path& second) {
  for (const auto& folder : {first, second})
    if (!fs::exists(folder / "config.json"))
      throw DataError(
          fmt::format("{}: no run is here; name a run's folder, the one with config.json", folder.string()));
  const auto a = read_object(first / "result.json"), b = read_object(second / "result.json");
  const auto results = {"config", "provenance", "schema", "id", "curve", "seed"};
  const auto dates = {"started", "finished"};
  Json diff = {{"schema", "attnscale.diff/1"},
               {"runs", {first.filename().string(), second.filename().string()}},
               {"config", differing_leaves(read_object(first / "config.json"), read_object(second / "config.json"))},
               {"results", differing_leaves(without(a, results), without(b, results))},
               {"provenance", differing_leaves(without(a.value("provenance", Json::object()), dates),
                                               without(b.value("provenance", Json::object()), dates))}};
  if (!fs::exists(first / "log.jsonl") || !fs::exists(second / "log.jsonl")) diff["log"] = "missing";
  else if (const auto step = first_difference_of_logs(first / "log.jsonl", second / "log.jsonl"); step < 0)
    diff["log"] = "equal";
  else diff["log"] = {{"step", step}};
  return diff;
}

std::string run_diff_text(const Json& diff, size_t width) {
  std::string text;
  for (const auto* section : {"config", "results", "provenance"}) {
    const auto& pairs = diff.at(section);
    if (pairs.empty()) {
      text += fmt::format("{}: equal\n", section);
      continue;
    }
    Table table;
    table.add_column(section);
    for (const auto& run : diff.at("runs")) table.add_column(run.get<std::string>().substr(0, 8));
    table.add_column("change");
    for (const auto& [path, pair] : pairs.items())
      if (!pair[0].is_array() && !pair[1].is_array())
        table.add_row({path, shown(pair[0]), shown(pair[1]), std::string(section) == "provenance" ? "" : change(pair)});
    text += table.text(width) + "\n";
  }
  const auto& log = diff.at("log");
  return text + (log == "equal"     ? "logs: equal bit for bit\n"
                 : log == "missing" ? "logs: not there\n"
                                    : fmt::format("logs: part at step {}\n", log.at("step").get<int64_t>()));
}

}  // namespace attnscale

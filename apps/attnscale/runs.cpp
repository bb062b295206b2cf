#include <fmt/format.h>
#include <unistd.h>

#include "commands.h"
#include "core/table.h"
#include "report/run_diff.h"
#include "report/run_query.h"

namespace attnscale {
namespace {

std::string cell_text(const std::string& title, const Json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return title == "id" ? value.get<std::string>().substr(0, 8) : value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string table_text(const RunAnswer& answer) {
  Table table;
  for (size_t i = 0; i < answer.titles.size(); ++i) {
    const bool numbers = !answer.rows.empty() && answer.rows.front()[i].is_number();
    table.add_column(answer.titles[i], numbers ? Table::right : Table::left);
  }
  for (const auto& row : answer.rows) {
    std::vector<std::string> cells;
    for (size_t i = 0; i < row.size(); ++i) cells.push_back(cell_text(answer.titles[i], row[i]));
    table.add_row(std::move(cells));
  }
  return table.text(::isatty(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 1000);
}

ExitCode runs(const std::string& folder, const RunQuery& query, bool json) {
  const auto table = RunTable::read(folder);
  RunAnswer answer;
  try {
    answer = ask(table, query);
  } catch (const ConfigError& error) {  // the question is an argument
    throw Error(error.what(), ExitCode::usage);
  }
  if (json) {
    Json rows = Json::array();
    for (const auto& row : answer.rows) {
      Json object = Json::object();
      for (size_t i = 0; i < row.size(); ++i)
        if (!row[i].is_null()) object[answer.titles[i]] = row[i];
      rows.push_back(std::move(object));
    }
    print(rows.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
    return ExitCode::done;
  }
  print(table_text(answer));
  if (answer.matching != table.num_rows() || answer.rows.size() != answer.matching)
    print(fmt::format(
        "{} of {} runs{}\n", answer.matching, table.num_rows(),
        answer.rows.size() < answer.matching ? fmt::format(", the first {} shown", answer.rows.size()) : ""));
  return ExitCode::done;
}

ExitCode diff(const std::string& first, const std::string& second, bool json) {
  const Json found = run_diff(run_argument(first), run_argument(second));
  if (json) print_json(found);
  else print(run_diff_text(found, ::isatty(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 1000));
  return ExitCode::done;
}

}  // namespace

void add_runs(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("runs", "Lists a sweep's runs: filtered, sorted, with the columns you ask for");
  auto folder = std::make_shared<std::string>();
  auto query = std::make_shared<RunQuery>();
  auto json = std::make_shared<bool>(false);
  command->add_option("dir", *folder, "folder of a sweep")->required();
  command->add_option("--where", query->where, "only runs for which this holds: 'variant == \"linear\" and depth > 2'")
      ->type_name("CONDITION");
  command->add_option("--sort", query->sort, "by this column or formula, the least first; runs without it last")
      ->type_name("FORMULA");
  command->add_flag("--descending", query->descending, "the greatest first");
  command
      ->add_option("--columns", query->columns,
                   "columns or formulas, separated by commas: 'id, loss, flops / tokens'; "
                   "'*' prints all (default: id, what differs, the loss)")
      ->type_name("LIST");
  command->add_option("--limit", query->limit, "at most so many runs")->check(CLI::Range(size_t{1}, size_t{1} << 40));
  command->add_flag("--json", *json, "one JSON document on standard output");
  command->footer(
      "Example: attnscale runs results/quickstart --where 'variant == \"linear\" and depth > 2' --sort loss --limit "
      "10\n"
      "Names may be short (depth for model.depth). Conditions know == != < <= > >= in, and or not, + - * / // % **,\n"
      "min max abs round floor ceil sqrt exp log, texts in quotes, lists in [ ], and none for what a run does not "
      "have.");
  command->callback([=, &action] { action = [=] { return runs(*folder, *query, *json); }; });
}

void add_diff(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("diff", "Shows in what two runs differ: config, results, provenance, logs");
  auto first = std::make_shared<std::string>(), second = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("first", *first, "a run: its folder, or DIR/ID with the first letters of its id")->required();
  command->add_option("second", *second, "another run")->required();
  command->add_flag("--json", *json, "one JSON document on standard output");
  command->footer("Example: attnscale diff results/quickstart/0c5d results/quickstart/71af");
  command->callback([=, &action] { action = [=] { return diff(*first, *second, *json); }; });
}

}  // namespace attnscale

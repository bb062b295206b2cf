#include "report/run_query.h"

#include <algorithm>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "core/expression.h"

namespace attnscale {
namespace {

/// Expressions over one table: which columns they need, and where those stand in a row of cells.
class Bound {
 public:
  explicit Bound(const RunTable& table) : table_(table) {}

  struct One {
    Expression expression;
    std::vector<size_t> slots;
  };

  One bind(Expression expression) {
    std::vector<size_t> slots;
    for (const auto& name : expression.names()) slots.push_back(slot(table_.resolve(name)));
    return {std::move(expression), std::move(slots)};
  }

  const std::vector<std::string>& paths() const { return paths_; }

  static std::vector<const Json*> values(const One& one, const std::vector<Json>& cells) {
    std::vector<const Json*> values;
    for (const size_t slot : one.slots) values.push_back(&cells[slot]);
    return values;
  }

 private:
  size_t slot(const std::string& path) {
    const auto [found, is_new] = slots_.emplace(path, paths_.size());
    if (is_new) paths_.push_back(path);
    return found->second;
  }

  const RunTable& table_;
  std::vector<std::string> paths_;
  std::map<std::string, size_t> slots_;
};

/// Says which part of the query an error is about.
template <class Action>
auto told_as(const char* part, Action action) {
  try {
    return action();
  } catch (const ConfigError& error) {
    throw ConfigError(fmt::format("{}: {}", part, error.what()));
  }
}

std::vector<std::string> default_paths(const RunTable& table) {
  std::vector<std::string> paths = {"id", "status"};
  const auto settings = table.varying_settings();
  const auto& all = table.paths();
  const auto has = [&](const char* name) { return std::find(all.begin(), all.end(), name) != all.end(); };
  if (has("group")) paths.push_back("group");
  const bool several_variants =
      std::any_of(settings.begin(), settings.end(), [](const auto& path) { return path == "attention.variant"; });
  if (several_variants) paths.push_back(has("variant") ? "variant" : "attention.variant");
  for (const auto& path : settings)
    if (path != "attention.variant")
      paths.push_back(path == "train.seed" ? "seed" : path == "train.steps" ? "steps" : path);  // the row has them too
  for (const auto* name : {"params", "tokens", "loss", "excess"})
    if (has(name)) paths.push_back(name);
  return paths;
}

/// Numbers by size, then texts by letters, then what is neither; nothing comes last either way.
bool comes_first(const Json& a, const Json& b, bool descending) {
  if (a.is_null() || b.is_null()) return !a.is_null() && b.is_null();
  const auto kind = [](const Json& value) { return value.is_number() ? 0 : value.is_string() ? 1 : 2; };
  if (kind(a) != kind(b)) return kind(a) < kind(b);
  return descending ? b < a : a < b;
}

}  // namespace

RunAnswer ask(const RunTable& table, const RunQuery& query) {
  Bound bound(table);
  std::optional<Bound::One> where, sort;
  if (!query.where.empty()) told_as("--where", [&] { where = bound.bind(Expression::parse(query.where)); });
  if (!query.sort.empty()) told_as("--sort", [&] { sort = bound.bind(Expression::parse(query.sort)); });
  RunAnswer answer;
  std::vector<Bound::One> columns;
  const auto add = [&](const std::string& path) {
    answer.titles.push_back(table.short_name(path));
    columns.push_back(bound.bind(Expression::parse(path)));
  };
  if (query.columns.empty()) {
    for (const auto& path : default_paths(table)) add(path);
  } else if (query.columns == "*") {
    for (const auto& path : table.paths()) add(path);
  } else {
    told_as("--columns", [&] {
      for (auto& expression : Expression::parse_list(query.columns)) {
        answer.titles.push_back(expression.text());
        columns.push_back(bound.bind(std::move(expression)));
      }
    });
  }

  const auto cells = table.cells(bound.paths());
  std::vector<size_t> chosen;
  for (size_t row = 0; row < cells.size(); ++row)
    if (!where || told_as("--where", [&] { return where->expression.holds(Bound::values(*where, cells[row])); }))
      chosen.push_back(row);
  answer.matching = chosen.size();
  if (sort) {
    std::vector<Json> keys(cells.size());
    told_as("--sort", [&] {
      for (const size_t row : chosen) keys[row] = sort->expression.value(Bound::values(*sort, cells[row]));
    });
    std::stable_sort(chosen.begin(), chosen.end(),
                     [&](size_t a, size_t b) { return comes_first(keys[a], keys[b], query.descending); });
  }
  if (query.limit > 0 && chosen.size() > query.limit) chosen.resize(query.limit);
  told_as("--columns", [&] {
    for (const size_t row : chosen) {
      auto& values = answer.rows.emplace_back();
      for (const auto& column : columns) values.push_back(column.expression.value(Bound::values(column, cells[row])));
    }
  });
  return answer;
}

std::set<std::string> runs_where(const RunTable& table, const std::string& condition) {
  std::set<std::string> ids;
  for (const auto& row : ask(table, {.where = condition, .columns = "id"}).rows)
    ids.insert(row.front().get<std::string>());
  return ids;
}

}  // namespace attnscale

// Which column of a table holds what: the roles, their default names, and the user's own.

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "scaling/table.h"

namespace attnscale {
namespace {

std::string trimmed_word(const std::string& text) {
  const auto first = text.find_first_not_of(" \t");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

}  // namespace

const std::vector<std::string>& ColumnMap::roles() {
  static const std::vector<std::string> names = {"N",    "D",      "C",     "L",     "run", "variant",
                                                 "seed", "status", "width", "depth", "U",   "S"};
  return names;
}

const std::vector<std::string>& ColumnMap::defaults(const std::string& role) {
  static const std::map<std::string, std::vector<std::string>> names = {
      {"N", {"params", "N"}},
      {"D", {"tokens", "D"}},
      {"C", {"flops", "C"}},
      {"L", {"loss", "L"}},
      {"run", {"id", "run", "run_name"}},
      {"variant", {"variant", "config.attention.variant"}},
      {"seed", {"seed"}},
      {"status", {"status"}},
      {"width", {"width", "config.model.model_dim"}},
      {"depth", {"depth", "config.model.depth"}},
      {"U", {"unique_tokens", "config.data.unique_tokens"}},
      {"S", {"steps"}}};
  return names.at(role);
}

const std::vector<std::string>& ColumnMap::ledgers(const std::string& role) {
  static const std::map<std::string, std::vector<std::string>> names = {
      {"N", {"standard_block", "non_embedding", "without_input_embedding", "total"}},
      {"C", {"six_n", "six_n_with_head", "algorithmic", "executed"}}};
  return names.at(role);
}

void ColumnMap::count_by(const std::string& role, const std::string& name) {
  const auto& known = ledgers(role);
  if (std::find(known.begin(), known.end(), name) == known.end())
    throw ConfigError(
        fmt::format("{}: \"{}\" is no way to count it; expected one of {}", role, name, fmt::join(known, ", ")));
  const auto column = fmt::format("{}.{}", role == "N" ? "parameters" : "flops_ledger", name);
  if (!columns.emplace(role, column).second)
    throw ConfigError(fmt::format("--columns: gives \"{}\" for {}, which is also to be counted as {}; keep one of them",
                                  columns.at(role), role, name));
}

std::string ColumnMap::source_of(const std::string& role) const {
  const auto found = columns.find(role);
  return found == columns.end() ? defaults(role).front() : found->second;
}

ColumnMap ColumnMap::parse(const std::string& text) {
  ColumnMap map;
  size_t begin = 0;
  while (begin <= text.size() && !text.empty()) {
    const auto end = std::min(text.find(',', begin), text.size());
    const auto item = trimmed_word(text.substr(begin, end - begin));
    begin = end + 1;
    const auto equals = item.find('=');
    if (equals == std::string::npos || equals + 1 == item.size())
      throw ConfigError(
          fmt::format("--columns: received \"{}\"; expected ROLE=COLUMN, for example N=params,L=loss", item));
    const auto role = trimmed_word(item.substr(0, equals));
    if (std::find(roles().begin(), roles().end(), role) == roles().end())
      throw ConfigError(fmt::format("--columns: \"{}\" is not a role; roles: {}", role, fmt::join(roles(), ", ")));
    const auto column = trimmed_word(item.substr(equals + 1));
    for (const auto& [other, taken] : map.columns)
      if (other != role && taken == column)
        throw ConfigError(fmt::format("--columns: column \"{}\" is given for {} and for {}; a column has one role",
                                      column, other, role));
    if (!map.columns.emplace(role, column).second)
      throw ConfigError(fmt::format("--columns: {} is given twice; keep one of them", role));
  }
  return map;
}

}  // namespace attnscale

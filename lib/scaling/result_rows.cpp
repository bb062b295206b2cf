#include "scaling/result_rows.h"

#include <algorithm>
#include <iterator>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "scaling/table.h"

namespace attnscale {
namespace {

constexpr size_t max_row_problems = 20;

enum class FieldKind { number, text, object, numbers, texts };

struct ResultField {
  const char* path;
  FieldKind kind;
};

/// What readers of result rows rely on. A field may be absent, unless it is the id; a wrong type is never right.
/// Parents come before what they hold.
constexpr ResultField result_fields[] = {{"id", FieldKind::text},
                                         {"status", FieldKind::text},
                                         {"message", FieldKind::text},
                                         {"flags", FieldKind::texts},
                                         {"loss", FieldKind::number},
                                         {"best_loss", FieldKind::number},
                                         {"bayes_loss", FieldKind::number},
                                         {"bayes_loss_error", FieldKind::number},
                                         {"excess", FieldKind::number},
                                         {"params", FieldKind::number},
                                         {"tokens", FieldKind::number},
                                         {"flops", FieldKind::number},
                                         {"steps", FieldKind::number},
                                         {"seed", FieldKind::number},
                                         {"diverged_at", FieldKind::number},
                                         {"config", FieldKind::object},
                                         {"config.model", FieldKind::object},
                                         {"config.model.depth", FieldKind::number},
                                         {"config.model.model_dim", FieldKind::number},
                                         {"config.attention", FieldKind::object},
                                         {"config.attention.variant", FieldKind::text},
                                         {"config.data", FieldKind::object},
                                         {"config.train", FieldKind::object},
                                         {"truth", FieldKind::object},
                                         {"truth.bayes_loss", FieldKind::number},
                                         {"truth.entropy_rate", FieldKind::number},
                                         {"truth.derivation", FieldKind::text},
                                         {"moved", FieldKind::texts},
                                         {"curve", FieldKind::object},
                                         {"curve.steps", FieldKind::numbers},
                                         {"curve.tokens", FieldKind::numbers},
                                         {"curve.flops", FieldKind::numbers},
                                         {"curve.loss", FieldKind::numbers},
                                         {"accuracy", FieldKind::number},
                                         {"state_bytes", FieldKind::number},
                                         {"truth.chance_accuracy", FieldKind::number},
                                         {"parameters", FieldKind::object},
                                         {"flops_ledger", FieldKind::object},
                                         {"timing", FieldKind::object},
                                         {"timing.seconds", FieldKind::number},
                                         {"provenance", FieldKind::object}};

bool has_kind(const Json& value, FieldKind kind) {
  const auto all = [&](auto is_right) { return value.is_array() && std::all_of(value.begin(), value.end(), is_right); };
  switch (kind) {
    case FieldKind::number:
      return value.is_number();
    case FieldKind::text:
      return value.is_string();
    case FieldKind::object:
      return value.is_object();
    case FieldKind::numbers:
      return all([](const Json& each) { return each.is_number(); });
    case FieldKind::texts:
      return all([](const Json& each) { return each.is_string(); });
  }
  return false;
}

const char* expected_text(FieldKind kind) {
  switch (kind) {
    case FieldKind::number:
      return "a number";
    case FieldKind::text:
      return "a text";
    case FieldKind::object:
      return "an object";
    case FieldKind::numbers:
      return "a list of numbers";
    case FieldKind::texts:
      return "a list of texts";
  }
  return "";
}

/// The value along a dotted path; nothing where a parent is absent or (which is complained about by itself) no object.
const Json* field_of(const Json& row, std::string_view path) {
  const Json* value = &row;
  while (true) {
    const auto dot = path.find('.');
    if (!value->is_object()) return nullptr;
    const auto found = value->find(std::string(path.substr(0, dot)));
    if (found == value->end()) return nullptr;
    value = &*found;
    if (dot == std::string_view::npos) return value;
    path.remove_prefix(dot + 1);
  }
}

void check_fields(const Json& row, const std::string& place, std::vector<std::string>& problems) {
  for (const auto& field : result_fields)
    if (const Json* value = field_of(row, field.path); value && !has_kind(*value, field.kind))
      problems.push_back(fmt::format("{}: {}: received {}; expected {}; mend or remove the row", place, field.path,
                                     describe_value(*value), expected_text(field.kind)));
  const Json* id = field_of(row, "id");
  if (!id || (id->is_string() && id->get_ref<const std::string&>().empty()))
    problems.push_back(fmt::format("{}: id: is {}; a result row needs the id of its run; add it, or remove the row",
                                   place, id ? "empty" : "missing"));
}

/// What matching moved in each run, by id, as plan.json tells; nothing of a plan that is absent, older or damaged,
/// which whoever needs the plan itself complains about.
std::map<std::string, Json> moved_by_matching(const std::filesystem::path& plan_file) {
  std::map<std::string, Json> moved;
  if (!std::filesystem::exists(plan_file)) return moved;
  Json plan;
  try {
    plan = read_json(plan_file).value;
  } catch (const Error&) {
    return moved;
  }
  const Json* runs = field_of(plan, "runs");
  if (!runs || !runs->is_array()) return moved;
  for (const auto& run : *runs) {
    const Json *id = field_of(run, "id"), *paths = field_of(run, "matched.moved");
    if (id && id->is_string() && paths && has_kind(*paths, FieldKind::texts)) moved[id->get<std::string>()] = *paths;
  }
  return moved;
}

}  // namespace

std::map<std::string, std::vector<std::string>> groups_of_runs(const std::filesystem::path& folder) {
  std::map<std::string, std::vector<std::string>> groups;
  const auto file = folder / "groups.json";
  if (!std::filesystem::exists(file)) return groups;
  const Json json = read_json(file).value;
  const Json* named = field_of(json, "groups");
  if (!named || !named->is_object()) throw DataError(file.string() + ": is no list of groups; run the sweep again");
  for (const auto& [name, ids] : named->items()) {
    if (!has_kind(ids, FieldKind::texts))
      throw DataError(fmt::format("{}: groups.{} is no list of runs; run the sweep again", file.string(), name));
    for (const auto& id : ids) groups[id.get<std::string>()].push_back(name);
  }
  return groups;
}

ResultRows read_result_rows(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) throw IoError(folder.string() + ": no such folder; expected a sweep's");
  const auto file = folder / "results.jsonl";
  if (!std::filesystem::exists(file))
    throw DataError(
        fmt::format("{}: is a folder without results.jsonl; name the folder of a sweep in which at least one run has "
                    "ended (results/<sweep>)",
                    folder.string()));
  auto lines = read_jsonl(file, true);
  if (lines.rows.empty())
    throw DataError(file.string() + ": has no rows; wait until at least one run has ended, or run the sweep again");
  ResultRows result;
  std::vector<std::string> problems;
  std::map<std::string, size_t> place_of_id;
  for (auto& [place, row] : lines.rows) {
    const auto before = problems.size();
    check_fields(row, place, problems);
    if (problems.size() > before) continue;
    const auto [found, is_new] = place_of_id.emplace(row["id"].get<std::string>(), result.rows.size());
    if (is_new) {
      result.rows.push_back(std::move(row));
      result.places.push_back(place);
    } else {
      result.rows[found->second] = std::move(row);
      result.places[found->second] = place;
    }
  }
  if (const auto count = problems.size(); count > max_row_problems) {
    problems.resize(max_row_problems);
    problems.push_back(fmt::format("and {} more", count - max_row_problems));
  }
  if (!problems.empty()) throw DataError(fmt::format("{}", fmt::join(problems, "\n")));
  const auto moved = moved_by_matching(folder / "plan.json");
  for (auto& row : result.rows)
    if (const auto found = moved.find(row["id"].get<std::string>()); found != moved.end()) row["moved"] = found->second;
  const auto groups = groups_of_runs(folder);
  for (auto& row : result.rows)
    if (const auto found = groups.find(row["id"].get<std::string>()); found != groups.end()) {
      row["group"] = found->second.front();
      row["groups"] = found->second;
    }
  if (lines.torn_line > 0)
    result.notes.push_back(
        fmt::format("Line {} of results.jsonl was cut short while it was written; it is left out.", lines.torn_line));
  return result;
}

}  // namespace attnscale

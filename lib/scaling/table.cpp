#include "scaling/table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/files.h"
#include "core/nearest.h"
#include "scaling/csv.h"
#include "scaling/result_rows.h"

namespace attnscale {
namespace {

constexpr size_t max_problems = 20;

/// A value as the table holds it: the text of a CSV field, or a JSON value.
struct Cell {
  Json value;
  bool from_text = false;
};

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// The whole text as a number, whatever the user's locale writes for a decimal point.
std::optional<double> number_of(const Cell& cell) {
  if (!cell.from_text) {
    if (cell.value.is_number()) return cell.value.get<double>();
    return std::nullopt;
  }
  const auto text = trimmed(cell.value.get<std::string>());
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (begin != end && *begin == '+') ++begin;
  double value = 0;
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || stop != end || begin == end) return std::nullopt;
  return value;
}

std::string text_of(const Cell& cell) {
  if (cell.value.is_string())
    return cell.from_text ? trimmed(cell.value.get<std::string>()) : cell.value.get<std::string>();
  return cell.value.dump();
}

/// Turns records into points, and collects what is wrong with them.
class PointReader {
 public:
  PointReader(const ColumnMap& map, std::string source) : source_(std::move(source)) {
    for (const auto& role : ColumnMap::roles()) {
      const auto given = map.columns.find(role);
      explicit_[role] = given != map.columns.end();
      names_[role] = explicit_[role] ? std::vector<std::string>{given->second} : ColumnMap::defaults(role);
    }
    keep_roles_apart(map);
  }

  const std::vector<std::string>& names(const std::string& role) const { return names_.at(role); }
  void saw_column(const std::string& name) {
    if (columns_.insert(name).second) order_.push_back(name);
  }

  void saw_role(const std::string& role) { found_.insert(role); }

  /// @param cells  by role; a role whose column the record lacks is absent
  /// @param flags  what the record's own flags say
  void add(const std::map<std::string, Cell>& cells, const std::string& place, std::vector<std::string> flags = {}) {
    Point point;
    point.place = place;
    point.flags = std::move(flags);
    const auto text = [&](const char* role) {
      const auto found = cells.find(role);
      return found == cells.end() || found->second.value.is_null() ? std::string() : text_of(found->second);
    };
    for (const auto& [role, cell] : cells) saw_role(role);
    if (auto status = text("status"); !status.empty()) point.status = std::move(status);
    point.run = text("run");
    point.variant = text("variant");
    if (const auto found = cells.find("seed"); found != cells.end())
      if (const auto seed = number_of(found->second)) point.seed = static_cast<int64_t>(std::clamp(*seed, -9e15, 9e15));
    point.N = positive("N", cells, point);
    point.D = positive("D", cells, point);
    point.C = positive("C", cells, point);
    point.L = positive("L", cells, point);
    point.width = positive("width", cells, point);
    point.depth = positive("depth", cells, point);
    point.U = positive("U", cells, point);
    point.S = positive("S", cells, point);
    if (point.done())
      for (const char* role : {"N", "D", "L"})
        if (!cells.count(role)) lacking_.emplace_back(role, place);
    if (!point.done()) point.L = 0;
    any_done_ |= point.done();
    points_.push_back(std::move(point));
  }

  std::vector<Point> finish() {
    if (order_.empty()) throw DataError(source_ + ": has no rows; expected at least one run");
    std::vector<std::string> missing;
    for (const auto& role : ColumnMap::roles()) {
      if (found_.count(role)) continue;
      // A sweep of which no run is done has no losses to show.
      const bool wants_loss = any_done_ || points_.empty();
      if (role == "L" ? !wants_loss : !explicit_.at(role)) continue;
      const auto& name = names_.at(role).front();
      missing.push_back(fmt::format("{}: there is no column \"{}\" for {}{}; columns: {}", source_, name, role,
                                    hint(name, role), fmt::join(order_, ", ")));
    }
    if (missing.empty() && !found_.count("N") && !found_.count("D"))
      missing.push_back(
          fmt::format("{}: there is neither a column for N (parameters) nor for D (tokens); name them "
                      "with --columns N=...,D=...,L=...; columns: {}",
                      source_, fmt::join(order_, ", ")));
    if (!missing.empty()) throw DataError(fmt::format("{}", fmt::join(missing, "\n")));
    for (const auto& [role, place] : lacking_)
      if (found_.count(role))
        complain(
            fmt::format("{}: column \"{}\" ({}) is missing in this row, which other rows have; add it, or remove "
                        "the row",
                        place, names_.at(role).front(), role));
    if (count_ > problems_.size()) problems_.push_back(fmt::format("and {} more", count_ - problems_.size()));
    if (!problems_.empty()) throw DataError(fmt::format("{}", fmt::join(problems_, "\n")));
    if (points_.empty()) throw DataError(source_ + ": has no rows; expected at least one run");
    return std::move(points_);
  }

  void complain(std::string problem) {
    ++count_;
    if (problems_.size() < max_problems) problems_.push_back(std::move(problem));
  }

 private:
  /// A column that the map gives one role is not taken for another by default. Numbers are missed, so that they are
  /// asked for; a name that is missing is not.
  void keep_roles_apart(const ColumnMap& map) {
    for (const auto& [role, column] : map.columns)
      for (const auto& other : ColumnMap::roles()) {
        auto& tried = names_.at(other);
        if (explicit_.at(other) || std::find(tried.begin(), tried.end(), column) == tried.end()) continue;
        if (other.size() == 1)
          throw ConfigError(
              fmt::format("--columns: column \"{0}\" is given for {1}, and is by default the one for {2}; name another "
                          "column for {2} ({2}=...)",
                          column, role, other));
        std::erase(tried, column);
      }
  }

  std::string hint(const std::string& name, const std::string& role) const {
    const auto near = nearest_name(name, order_);
    if (!near.empty()) return fmt::format("; did you mean \"{}\"?", near);
    return fmt::format("; name it with --columns {}=...", role);
  }

  /// The role's value, 0 where the record has none; complains unless it is positive and finite.
  double positive(const std::string& role, const std::map<std::string, Cell>& cells, const Point& point) {
    const auto found = cells.find(role);
    if (found == cells.end()) return 0;
    const auto value = number_of(found->second);
    if (value && std::isfinite(*value) && *value > 0) return *value;
    // A run that failed may lack numbers; it is only counted.
    if (!point.done()) return 0;
    // Columns that nobody named may hold what they like, where no fit needs them.
    const bool is_needed = role == "N" || role == "D" || role == "C" || role == "L";
    if (!is_needed && !explicit_.at(role)) return 0;
    const auto& column = names_.at(role).front();
    const auto received = found->second.from_text ? fmt::format("\"{}\"", text_of(found->second).substr(0, 60))
                                                  : describe_value(found->second.value);
    const char* repair = role == "L" ? "a loss in nats per token is positive; give a run that broke a status other "
                                       "than \"done\", or remove the row"
                                     : "mend or remove the row";
    complain(fmt::format("{}: column \"{}\" ({}): received {}; expected a positive finite number; {}", point.place,
                         column, role, received, repair));
    return 0;
  }

  std::string source_;
  std::map<std::string, std::vector<std::string>> names_;
  std::map<std::string, bool> explicit_;
  std::set<std::string> columns_, found_;
  std::vector<std::string> order_, problems_;
  std::vector<std::pair<std::string, std::string>> lacking_;  // role, place
  size_t count_ = 0;
  bool any_done_ = false;
  std::vector<Point> points_;
};

/// The value at a key, or along a dotted path of keys; nothing where an object lacks it.
const Json* member(const Json& object, const std::string& name) {
  if (!object.is_object()) return nullptr;
  if (const auto found = object.find(name); found != object.end()) return &*found;
  for (auto dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1))
    if (const auto found = object.find(name.substr(0, dot)); found != object.end())
      return member(*found, name.substr(dot + 1));
  return nullptr;
}

/// The texts of a record's list `flags`, as the trainer writes it.
std::vector<std::string> flags_of(const Json& row) {
  std::vector<std::string> flags;
  if (const auto found = row.find("flags"); found != row.end() && found->is_array())
    for (const auto& flag : *found)
      if (flag.is_string()) flags.push_back(flag.get<std::string>());
  return flags;
}

std::vector<Point> points_of_csv(std::string_view text, const ColumnMap& map, const std::string& source) {
  CsvReader csv(text, source);
  std::vector<std::string> header, record;
  if (!csv.next(header)) throw DataError(source + ": is empty; expected a header line and rows");
  PointReader reader(map, source);
  for (auto& name : header) {
    name = trimmed(name);
    reader.saw_column(name);
  }
  std::map<std::string, size_t> index;
  for (const auto& role : ColumnMap::roles())
    for (const auto& name : reader.names(role)) {
      const auto found = std::find(header.begin(), header.end(), name);
      if (found == header.end()) continue;
      index[role] = static_cast<size_t>(found - header.begin());
      reader.saw_role(role);
      break;
    }
  while (csv.next(record)) {
    const auto place = fmt::format("{}:{}", source, csv.line());
    if (record.size() != header.size()) {
      reader.complain(
          fmt::format("{}: has {} fields; the header has {}; mend the row", place, record.size(), header.size()));
      continue;
    }
    std::map<std::string, Cell> cells;
    for (const auto& [role, column] : index) cells[role] = {Json(std::move(record[column])), true};
    reader.add(cells, place);
  }
  return reader.finish();
}

/// Refuses what no table looks like, before a parser makes a long story of it.
void check_is_text(std::string_view text, const std::string& source) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x20 || byte == '\t' || byte == '\n' || byte == '\r') continue;
    throw DataError(fmt::format("{}: is not a text file (byte 0x{:02x} at offset {}); expected CSV, JSON or JSONL",
                                source, byte, i));
  }
}

JsonLines rows_of_jsonl(std::string_view text, const std::string& source, bool may_be_torn) {
  JsonLines lines;
  int64_t line = 0;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const auto row = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++line;
    if (row.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto place = fmt::format("{}:{}", source, line);
    Json value;
    try {
      value = parse_json(row, place).value;
    } catch (const ConfigError& error) {
      if (may_be_torn && end == std::string_view::npos) {
        lines.torn_line = line;
        break;
      }
      // parse_json counts lines from the row's beginning; the row is one line.
      std::string message = error.what();
      if (const auto first = place + ":1:"; message.rfind(first, 0) == 0) message.replace(0, first.size(), place + ":");
      throw DataError(message);
    }
    if (!value.is_object())
      throw DataError(fmt::format("{}: holds {}; expected one JSON object per line", place, describe_value(value)));
    lines.rows.emplace_back(place, std::move(value));
  }
  return lines;
}

std::vector<std::pair<std::string, Json>> rows_of_json(std::string_view text, const std::string& source) {
  JsonDocument document;
  try {
    document = parse_json(text, source);
  } catch (const ConfigError& error) {
    throw DataError(error.what());
  }
  // A scaling.json holds its table under "points".
  const bool nested = document.value.is_object() && document.value.contains("points");
  const Json& list = nested ? document.value["points"] : document.value;
  if (!list.is_array())
    throw DataError(fmt::format("{}: holds {}; expected a list of objects, or an object with a list \"points\"", source,
                                describe_value(list)));
  std::vector<std::pair<std::string, Json>> rows;
  for (size_t i = 0; i < list.size(); ++i) {
    const auto place = document.place(fmt::format("{}[{}]", nested ? "points" : "", i));
    if (!list[i].is_object())
      throw DataError(fmt::format("{}: holds {}; expected an object", place, describe_value(list[i])));
    rows.emplace_back(place, list[i]);
  }
  return rows;
}

}  // namespace

std::vector<Point> points_of_rows(const std::vector<std::pair<std::string, Json>>& rows, const ColumnMap& columns,
                                  const std::string& source) {
  PointReader reader(columns, source);
  for (const auto& [place, row] : rows) {
    for (const auto& [name, value] : row.items()) reader.saw_column(name);
    std::map<std::string, Cell> cells;
    for (const auto& role : ColumnMap::roles())
      for (const auto& name : reader.names(role))
        if (const Json* value = member(row, name)) {
          cells[role] = {*value, false};
          break;
        }
    reader.add(cells, place, flags_of(row));
  }
  return reader.finish();
}

JsonLines read_jsonl(const std::filesystem::path& file, bool may_be_torn) {
  const auto text = read_file(file);
  check_is_text(text, file.string());
  return rows_of_jsonl(text, file.string(), may_be_torn);
}

std::vector<Point> read_points(const std::filesystem::path& path, const ColumnMap& columns) {
  if (std::filesystem::is_directory(path)) {
    auto results = read_result_rows(path);
    std::vector<std::pair<std::string, Json>> rows;
    for (size_t i = 0; i < results.rows.size(); ++i)
      rows.emplace_back(std::move(results.places[i]), std::move(results.rows[i]));
    return points_of_rows(rows, columns, (path / "results.jsonl").string());
  }
  return points_of_text(read_file(path), path, columns);
}

std::vector<Point> points_of_text(std::string_view text, const std::filesystem::path& path, const ColumnMap& columns) {
  const auto source = path.string();
  check_is_text(text, source);
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) throw DataError(source + ": is empty; expected a table");
  const auto extension = path.extension().string();
  const bool is_csv = extension == ".csv" || extension == ".tsv" || (text[first] != '[' && text[first] != '{');
  if (is_csv) return points_of_csv(text, columns, source);
  const bool is_jsonl = extension != ".json" && text[first] == '{';
  return points_of_rows(is_jsonl ? rows_of_jsonl(text, source, false).rows : rows_of_json(text, source), columns,
                        source);
}

}  // namespace attnscale

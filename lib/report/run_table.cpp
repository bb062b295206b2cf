#include "report/run_table.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <unordered_map>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <simdjson.h>

#include "core/files.h"
#include "core/nearest.h"
#include "scaling/result_rows.h"

namespace attnscale {
namespace {

namespace dom = simdjson::dom;

const std::vector<std::string> groups = {"model",        "attention", "data",   "train",     "parameters",
                                         "flops_ledger", "truth",     "timing", "provenance"};
constexpr size_t num_settings_groups = 4;  // of `groups`, those that are sections of the config

/// Place of a column: the row's own first, then group by group, then what this list does not know.
std::pair<size_t, std::string> order_of(const std::string& column) {
  const auto first = std::find(row_keys().begin(), row_keys().end(), column);
  if (first != row_keys().end()) return {static_cast<size_t>(first - row_keys().begin()), ""};
  const std::string group = column.substr(0, column.find('.'));
  const auto place = static_cast<size_t>(std::find(groups.begin(), groups.end(), group) - groups.begin());
  return {row_keys().size() + place, column};
}

bool is_setting(const std::string& path) {
  const auto group = path.substr(0, path.find('.'));
  return std::find(groups.begin(), groups.begin() + num_settings_groups, group) != groups.begin() + num_settings_groups;
}

Json json_of(dom::element element) {
  switch (element.type()) {
    case dom::element_type::INT64:
      return int64_t(element);
    case dom::element_type::UINT64:
      return uint64_t(element);
    case dom::element_type::DOUBLE:
      return double(element);
    case dom::element_type::BOOL:
      return bool(element);
    case dom::element_type::STRING:
      return std::string(std::string_view(element));
    case dom::element_type::ARRAY: {
      Json list = Json::array();
      for (const auto item : dom::array(element)) list.push_back(json_of(item));
      return list;
    }
    case dom::element_type::OBJECT: {
      Json object = Json::object();
      for (const auto field : dom::object(element)) object[std::string(field.key)] = json_of(field.value);
      return object;
    }
    case dom::element_type::NULL_VALUE:
      break;
  }
  return nullptr;
}

/// `blocks.gradient_norm` stands for what was watched of all blocks: the paths of the single ones, in order.
std::vector<std::string> paths_of_blocks(const std::string& name, const std::vector<std::string>& paths) {
  std::vector<std::string> found;
  if (!name.starts_with("blocks.")) return found;
  for (size_t block = 0;; ++block) {
    const auto path = fmt::format("watch.layers.blocks.{}.{}", block, name.substr(7));
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) return found;
    found.push_back(path);
  }
}

/// Lists over looks, one for each block, as lists over blocks, one for each look; null without any. Blocks that a run
/// lacks end the list.
Json looks_of_blocks(const std::vector<Json>& blocks) {
  Json looks;
  for (const auto& block : blocks) {
    if (!block.is_array()) break;
    for (size_t look = 0; look < block.size(); ++look) looks[look].push_back(block[look]);
  }
  return looks;
}

}  // namespace

const std::vector<std::string>& row_keys() {
  static const std::vector<std::string> keys = {
      "id",     "status", "group", "groups",      "variant", "loss", "best_loss", "bayes_loss",  "excess", "accuracy",
      "params", "tokens", "flops", "state_bytes", "steps",   "seed", "flags",     "diverged_at", "message"};
  return keys;
}

void sort_columns(std::vector<std::string>& columns) {
  std::sort(columns.begin(), columns.end(), [](const auto& a, const auto& b) { return order_of(a) < order_of(b); });
}

/// The file's text, where its rows are, and a tree of the keys that occur in them.
class RunTable::Content {
 public:
  explicit Content(const std::filesystem::path& folder) : file_(folder / "results.jsonl") {
    if (!std::filesystem::is_directory(folder)) throw IoError(folder.string() + ": no such folder; expected a sweep's");
    if (!std::filesystem::exists(file_))
      throw DataError(
          fmt::format("{}: is a folder without results.jsonl; name the folder of a sweep in which at least "
                      "one run has ended (results/<sweep>)",
                      folder.string()));
    text_ = read_file(file_);
    size_ = text_.size();
    text_.resize(size_ + simdjson::SIMDJSON_PADDING);
    groups_ = groups_of_runs(folder);
    find_rows();
    collect_paths(0, "");
    if (!groups_.empty()) paths.insert(paths.end(), {"group", "groups"});
    sort_columns(paths);
  }

  std::vector<std::vector<Json>> cells(const std::vector<std::string>& wanted) const {
    std::vector<std::vector<size_t>> slots(nodes_.size());  // where a leaf's value goes
    std::vector<char> below(nodes_.size(), 0);              // whether a wanted leaf is here or below
    for (size_t slot = 0; slot < wanted.size(); ++slot) {
      const auto leaf = leaf_of_.find(wanted[slot]);
      if (leaf == leaf_of_.end()) continue;
      slots[leaf->second].push_back(slot);
      for (size_t node = leaf->second; node != 0; node = nodes_[node].parent) below[node] = 1;
    }
    std::vector<std::vector<Json>> result(rows_.size());
    dom::parser parser;
    for (size_t i = 0; i < rows_.size(); ++i) {
      result[i].resize(wanted.size());
      fill(parse(parser, rows_[i]), 0, slots, below, result[i]);
    }
    for (size_t slot = 0; slot < wanted.size() && !groups_.empty(); ++slot)
      if (wanted[slot] == "group" || wanted[slot] == "groups")
        for (size_t i = 0; i < rows_.size(); ++i)
          if (const auto found = groups_.find(rows_[i].id); found != groups_.end())
            result[i][slot] = wanted[slot] == "group" ? Json(found->second.front()) : Json(found->second);
    return result;
  }

  size_t num_rows() const { return rows_.size(); }
  std::vector<std::string> paths;          ///< sorted
  std::vector<std::string> varying_paths;  ///< settings

 private:
  struct Row {
    size_t begin, length, line;
    std::string id = {};
  };
  struct Node {
    std::string key;
    size_t parent = 0;
    std::vector<size_t> children = {};
    size_t count = 0;  ///< rows in which this is a leaf
    Json first = {};   ///< its value in the first of them
    bool varies = false;
  };

  dom::object parse(dom::parser& parser, const Row& row) const {
    dom::object object;
    const auto error = parser.parse(text_.data() + row.begin, row.length, false).get(object);
    if (error)
      throw DataError(fmt::format("{}:{}: is not a row of results ({}); attnscale fsck says more", file_.string(),
                                  row.line, simdjson::error_message(error)));
    return object;
  }

  void find_rows() {
    dom::parser parser;
    std::unordered_map<std::string, size_t> row_of_id;
    size_t line = 0;
    for (size_t begin = 0; begin < size_;) {
      const void* newline = std::memchr(text_.data() + begin, '\n', size_ - begin);
      if (newline == nullptr) break;  // torn while it was written
      const auto end = static_cast<size_t>(static_cast<const char*>(newline) - text_.data());
      Row row{begin, end - begin, ++line};
      begin = end + 1;
      if (row.length == 0) continue;
      const auto object = parse(parser, row);
      std::string_view id;
      if (object["id"].get(id) || id.empty())
        throw DataError(fmt::format("{}:{}: id: is missing; a result row needs the id of its run; remove the row",
                                    file_.string(), row.line));
      if (!groups_.empty()) row.id = id;
      const auto [known, is_new] = row_of_id.emplace(std::string(id), rows_.size());
      if (is_new) rows_.push_back(row);
      else rows_[known->second] = row;
      learn(object, 0);
    }
    if (rows_.empty())
      throw DataError(file_.string() + ": has no rows; wait until at least one run has ended, or run the sweep again");
  }

  /// The child with this key; rows mostly repeat each other's order, so that it is the one behind the last.
  size_t child(size_t node, std::string_view key, size_t& hint) {
    const auto& children = nodes_[node].children;
    for (size_t i = 0; i < children.size(); ++i) {
      const size_t at = (hint + i) % children.size();
      if (nodes_[children[at]].key != key) continue;
      hint = at + 1;
      return children[at];
    }
    nodes_.push_back({.key = std::string(key), .parent = node});
    nodes_[node].children.push_back(nodes_.size() - 1);
    hint = nodes_[node].children.size();
    return nodes_.size() - 1;
  }

  void learn(dom::object object, size_t node) {
    size_t hint = 0;
    for (const auto field : object) {
      if (node == 0 && (field.key == "curve" || field.key == "schema")) continue;
      const size_t at = child(node, field.key, hint);
      dom::object inside;
      if (!field.value.get(inside)) {
        learn(inside, at);
        continue;
      }
      auto& leaf = nodes_[at];
      if (leaf.count++ == 0) leaf.first = json_of(field.value);
      else if (!leaf.varies) leaf.varies = json_of(field.value) != leaf.first;
    }
  }

  void collect_paths(size_t node, const std::string& path) {
    if (nodes_[node].count > 0) {
      paths.push_back(path);
      leaf_of_[path] = node;
      // Options of a variant or a source are missing where there is another: that alone tells nothing.
      const bool of_a_choice = path.starts_with("attention.") || path.starts_with("data.");
      const bool missing = nodes_[node].count < rows_.size() && !of_a_choice;
      if (is_setting(path) && (nodes_[node].varies || missing)) varying_paths.push_back(path);
    }
    for (const size_t at : nodes_[node].children)
      collect_paths(at, node == 0 && nodes_[at].key == "config" ? "" : join_path(path, nodes_[at].key));
  }

  void fill(dom::object object, size_t node, const std::vector<std::vector<size_t>>& slots,
            const std::vector<char>& below, std::vector<Json>& into) const {
    size_t next = 0;
    const auto& children = nodes_[node].children;
    for (const auto field : object) {
      size_t at = 0;
      for (size_t i = 0; i < children.size(); ++i)
        if (const size_t place = (next + i) % children.size(); nodes_[children[place]].key == field.key) {
          at = children[place];
          next = place + 1;
          break;
        }
      if (at == 0 || !below[at]) continue;
      dom::object inside;
      if (!field.value.get(inside)) fill(inside, at, slots, below, into);
      else
        for (const size_t slot : slots[at]) into[slot] = json_of(field.value);
    }
  }

  std::filesystem::path file_;
  std::string text_;  ///< with room behind it, which the parser reads
  size_t size_ = 0;
  std::vector<Row> rows_;
  std::vector<Node> nodes_ = {Node{}};  ///< the first is the row itself
  std::map<std::string, size_t> leaf_of_;
  std::map<std::string, std::vector<std::string>> groups_;  ///< of the spec, by run
};

RunTable RunTable::read(const std::filesystem::path& folder) {
  RunTable table;
  table.content_ = std::make_shared<const Content>(folder);
  return table;
}

size_t RunTable::num_rows() const { return content_->num_rows(); }
const std::vector<std::string>& RunTable::paths() const { return content_->paths; }
std::vector<std::string> RunTable::varying_settings() const {
  auto paths = content_->varying_paths;
  sort_columns(paths);
  return paths;
}

std::string RunTable::resolve(const std::string& name) const {
  const auto has = [&](const auto& list) { return std::find(list.begin(), list.end(), name) != list.end(); };
  if (has(paths()) || has(row_keys()) || !paths_of_blocks(name, paths()).empty()) return name;
  const auto config_path = name.starts_with("config.") ? name.substr(7) : "";
  std::vector<std::string> found, known = row_keys();
  for (const auto& path : paths()) {
    if (path.ends_with("." + name) || path == config_path) found.push_back(path);
    known.push_back(path);
    known.push_back(path.substr(path.rfind('.') + 1));
  }
  if (found.size() == 1) return found.front();
  if (found.size() > 1)
    throw ConfigError(fmt::format("{} may be {}; write one of them", name, fmt::join(found, " or ")));
  const auto near = nearest_name(name, known);
  throw ConfigError(
      fmt::format("unknown column {}{}", name,
                  near.empty() ? "; --columns '*' prints all" : fmt::format("; did you mean \"{}\"?", near)));
}

std::string RunTable::short_name(const std::string& path) const {
  const std::string_view whole = path;
  for (auto dot = whole.rfind('.'); dot != whole.npos; dot = whole.substr(0, dot).rfind('.')) {
    const auto name = path.substr(dot + 1);
    try {
      if (resolve(name) == path) return name;
    } catch (const ConfigError&) {  // several paths end so
    }
  }
  return path;
}

std::vector<std::vector<Json>> RunTable::cells(const std::vector<std::string>& paths) const {
  std::vector<std::string> wanted;
  std::vector<size_t> blocks;  // how many paths stand for each; 0: itself
  for (const auto& path : paths) {
    const auto of_blocks = paths_of_blocks(path, content_->paths);
    blocks.push_back(of_blocks.size());
    if (of_blocks.empty()) wanted.push_back(path);
    else wanted.insert(wanted.end(), of_blocks.begin(), of_blocks.end());
  }
  auto rows = content_->cells(wanted);
  if (wanted.size() == paths.size() && std::ranges::count(blocks, size_t{0}) == std::ssize(blocks)) return rows;
  for (auto& row : rows) {
    std::vector<Json> cells;
    auto next = row.begin();
    for (const size_t count : blocks) {
      cells.push_back(count == 0 ? *next : looks_of_blocks({next, next + static_cast<std::ptrdiff_t>(count)}));
      next += static_cast<std::ptrdiff_t>(std::max<size_t>(1, count));
    }
    row = std::move(cells);
  }
  return rows;
}

}  // namespace attnscale

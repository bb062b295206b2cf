#include "sweep/derived.h"

#include <algorithm>
#include <memory>
#include <set>
#include <unordered_map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "attention/registry.h"
#include "core/expression.h"
#include "core/json_paths.h"
#include "core/nearest.h"
#include "core/options.h"
#include "data/registry.h"
#include "model/options.h"
#include "train/run_config.h"

namespace attnscale {
namespace {

/// The choice's own options follow from its name in the config, where that is known.
template <class List>
const Fields* fields_of_choice(const List& list, const Json& config, const char* section, const char* key,
                               const std::string& otherwise) {
  const Json& given = at_path(config, join_path(section, key));
  const auto& name = given.is_string() ? given.get_ref<const std::string&>() : otherwise;
  for (const auto& one : list)
    if (one.name == name) return &one.fields;
  return nullptr;
}

/// The same few texts come for each run of a sweep.
std::shared_ptr<const Expression> parsed(const std::string& text) {
  constexpr size_t most_kept = 1024;
  thread_local std::unordered_map<std::string, std::shared_ptr<const Expression>> known;
  if (const auto found = known.find(text); found != known.end()) return found->second;
  auto expression = std::make_shared<const Expression>(Expression::parse(text));
  if (known.size() >= most_kept) known.clear();
  return known[text] = std::move(expression);
}

class Derivation {
 public:
  Derivation(Json& config, std::vector<Problem>& problems) : config_(config), problems_(problems) {
    static const std::string source = DataChoice{}.source, variant = AttentionChoice{}.variant;
    defaults_ = {{"attention", fields_of_choice(all_variants(), config, "attention", "variant", variant)},
                 {"data", fields_of_choice(all_sources(), config, "data", "source", source)},
                 {"model", &ModelOptions::fields()},
                 {"train", &TrainOptions::fields()}};
    visit_leaves(config_, "", [&](const std::string& parent, const std::string& key, const Json& value) {
      if (is_derived(value)) derived_.push_back(join_path(parent, key));
    });
  }

  void derive_all() {
    for (const auto& path : derived_)
      if (value_at(path).is_string()) derive(path);  // another may have needed it already
    for (const auto& path : derived_)
      if (value_at(path).is_null()) erase_path(config_, path);  // none leaves an option out, one with a default too
  }

 private:
  template <class Visit>
  static void visit_leaves(const Json& object, const std::string& path, const Visit& visit) {
    if (!object.is_object()) return;
    for (const auto& [key, inside] : object.get_ref<const Json::object_t&>()) {
      if (inside.is_object()) visit_leaves(inside, join_path(path, key), visit);
      else visit(path, key, inside);
    }
  }

  /// Null where the config does not say it.
  const Json* given(const std::string& path) const {
    const auto* value = find_path(config_, path);
    return value && value->is_object() ? nullptr : value;
  }

  /// What is given, else the default, which may be null; no address where there is no such option.
  const Json* known(const std::string& path) const {
    static const Json context = DataChoice{}.context;
    if (const auto* value = given(path)) return value;
    if (path == "data.context") return &context;
    for (const auto& [section, fields] : defaults_) {
      if (!fields || !path.starts_with(section) || path[section.size()] != '.') continue;
      const auto name = std::string_view(path).substr(section.size() + 1);
      for (const auto& field : *fields)
        if (field.name == name) return &field.default_value;
    }
    return nullptr;
  }

  /// Paths of all options for which `wanted(path's last part)`, sorted.
  template <class Wanted>
  std::set<std::string> paths_of(const Wanted& wanted) const {
    std::set<std::string> paths;
    for (const auto& [section, fields] : defaults_) {
      if (!fields) continue;
      for (const auto& field : *fields)
        if (wanted(field.name)) paths.insert(join_path(section, field.name));
    }
    if (wanted("context")) paths.insert("data.context");
    visit_leaves(config_, "", [&](const std::string& parent, const std::string& key, const Json&) {
      if (wanted(key)) paths.insert(join_path(parent, key));
    });
    return paths;
  }

  Json& value_at(const std::string& path) {
    Json* at = &config_;
    for (size_t begin = 0; begin <= path.size();) {
      const auto end = std::min(path.find('.', begin), path.size());
      at = &(*at)[path.substr(begin, end - begin)];
      begin = end + 1;
    }
    return *at;
  }

  bool fail(const std::string& path, std::string message) {
    problems_.push_back({path, std::move(message)});
    return false;
  }

  /// The path that a name in this derived value stands for; empty after reporting a problem.
  std::string resolve(const std::string& name, const std::string& path) {
    const auto section = path.substr(0, path.find('.'));
    if (auto own = join_path(section, name); known(own)) return own;
    if (known(name)) return name;
    auto found = paths_of([last = last_part(name)](const std::string& key) { return key == last; });
    std::erase_if(found, [&](const std::string& path_of) { return !path_of.ends_with("." + name); });
    if (found.size() == 1) return *found.begin();
    if (found.size() > 1) fail(path, fmt::format("{} may be {}; write one of them", name, fmt::join(found, " or ")));
    else {
      std::vector<std::string> names;
      for (const auto& known_path : paths_of([](const std::string&) { return true; })) {
        names.push_back(known_path);
        names.push_back(last_part(known_path));
      }
      const auto near = nearest_name(name, names);
      fail(path, fmt::format("unknown name {}{}", name,
                             near.empty() ? "; expected an option of the config, such as model.depth"
                                          : fmt::format("; did you mean \"{}\"?", near)));
    }
    return "";
  }

  bool derive(const std::string& path) {
    if (!at_work_.insert(path).second)
      return fail(path, fmt::format("is derived from itself, by way of {}", fmt::join(at_work_, ", ")));
    const bool good = calculate(path);
    at_work_.erase(path);
    if (!good) failed_.insert(path);
    return good;
  }

  bool calculate(const std::string& path) {
    if (failed_.contains(path)) return false;
    const auto text = known(path)->get<std::string>().substr(1);
    try {
      const auto expression = parsed(text);
      std::vector<std::string> paths;
      for (const auto& name : expression->names()) {
        const auto from = resolve(name, path);
        if (from.empty() || (is_derived(*known(from)) && !derive(from))) return false;
        if (known(from)->is_null() && !given(from))
          return fail(path,
                      fmt::format("{} is not set, and what it would be is worked out later; set it in the spec", from));
        paths.push_back(from);
      }
      std::vector<const Json*> values;
      for (const auto& from : paths) values.push_back(known(from));
      value_at(path) = expression->value(values);
      return true;
    } catch (const ConfigError& error) {
      return fail(path, error.what());
    }
  }

  Json& config_;
  std::vector<Problem>& problems_;
  std::vector<std::pair<std::string, const Fields*>> defaults_;  ///< by section; no fields: no such variant or source
  std::vector<std::string> derived_;
  std::set<std::string> at_work_, failed_;
};

}  // namespace

bool is_derived(const Json& value) {
  if (value.is_object())
    return std::any_of(value.begin(), value.end(), [](const Json& inside) { return is_derived(inside); });
  return value.is_string() && value.get_ref<const std::string&>().starts_with('=');
}

bool mentions_seed(const Json& value) {
  if (value.is_object())
    return std::any_of(value.begin(), value.end(), [](const Json& inside) { return mentions_seed(inside); });
  return is_derived(value) && value.get_ref<const std::string&>().find("seed") != std::string::npos;
}

void derive_values(Json& config, std::vector<Problem>& problems) {
  if (!is_derived(config)) return;
  Derivation(config, problems).derive_all();
}

}  // namespace attnscale

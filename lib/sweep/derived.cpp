#include "sweep/derived.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

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
const Fields* fields_of_choice(const List& list, const Json& section, const char* key, const std::string& otherwise) {
  std::string name = otherwise;
  if (section.is_object() && section.contains(key) && section[key].is_string())
    name = section[key].template get<std::string>();
  for (const auto& one : list)
    if (one.name == name) return &one.fields;
  return nullptr;
}

class Derivation {
 public:
  Derivation(Json& config, std::vector<Problem>& problems) : config_(config), problems_(problems) {
    const auto section = [&](const char* name) { return config.contains(name) ? config[name] : Json::object(); };
    add_defaults("model", &ModelOptions::fields());
    add_defaults("train", &TrainOptions::fields());
    add_defaults("attention", fields_of_choice(all_variants(), section("attention"), "variant", "softmax"));
    add_defaults("data", fields_of_choice(all_sources(), section("data"), "source", DataChoice{}.source));
    known_["data.context"] = DataChoice{}.context;
    collect(config_, "");
  }

  void derive_all() {
    for (const auto& path : derived_)
      if (value_at(path).is_string()) derive(path);  // another may have needed it already
    for (const auto& path : derived_)
      if (value_at(path).is_null()) erase_path(config_, path);  // none leaves an option out, one with a default too
  }

 private:
  void add_defaults(const std::string& section, const Fields* fields) {
    if (fields == nullptr) return;
    for (const auto& field : *fields) known_[join_path(section, field.name)] = field.default_value;
  }

  /// Given values stand over defaults; derived ones are noted.
  void collect(const Json& value, const std::string& path) {
    if (value.is_object())
      for (const auto& [key, inside] : value.items()) collect(inside, join_path(path, key));
    else if (!path.empty()) {
      known_[path] = value;
      if (is_derived(value)) derived_.push_back(path);
    }
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
    if (known_.contains(section + "." + name)) return section + "." + name;
    if (known_.contains(name)) return name;
    std::vector<std::string> found, names;
    for (const auto& [known, value] : known_) {
      if (known.ends_with("." + name)) found.push_back(known);
      names.push_back(known);
      names.push_back(known.substr(known.rfind('.') + 1));
    }
    if (found.size() == 1) return found.front();
    if (found.size() > 1) fail(path, fmt::format("{} may be {}; write one of them", name, fmt::join(found, " or ")));
    else {
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
    const auto text = known_[path].get<std::string>().substr(1);
    try {
      const auto expression = Expression::parse(text);
      std::vector<std::string> paths;
      for (const auto& name : expression.names()) {
        const auto from = resolve(name, path);
        if (from.empty() || (is_derived(known_[from]) && !derive(from))) return false;
        if (known_[from].is_null() && !given(from))
          return fail(path,
                      fmt::format("{} is not set, and what it would be is worked out later; set it in the spec", from));
        paths.push_back(from);
      }
      std::vector<const Json*> values;
      for (const auto& from : paths) values.push_back(&known_[from]);
      known_[path] = value_at(path) = expression.value(values);
      return true;
    } catch (const ConfigError& error) {
      return fail(path, error.what());
    }
  }

  bool given(const std::string& path) const {
    const Json* at = &config_;
    for (size_t begin = 0; begin <= path.size();) {
      const auto end = std::min(path.find('.', begin), path.size());
      const auto key = path.substr(begin, end - begin);
      if (!at->is_object() || !at->contains(key)) return false;
      at = &(*at)[key];
      begin = end + 1;
    }
    return true;
  }

  Json& config_;
  std::vector<Problem>& problems_;
  std::map<std::string, Json> known_;  ///< by path: what is given, else the default; null: none
  std::vector<std::string> derived_;
  std::set<std::string> at_work_, failed_;
};

}  // namespace

bool is_derived(const Json& value) {
  if (value.is_object())
    return std::any_of(value.begin(), value.end(), [](const Json& inside) { return is_derived(inside); });
  return value.is_string() && value.get_ref<const std::string&>().starts_with('=');
}

void derive_values(Json& config, std::vector<Problem>& problems) {
  if (!is_derived(config)) return;
  Derivation(config, problems).derive_all();
}

}  // namespace attnscale

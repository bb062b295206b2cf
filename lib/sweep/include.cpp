#include "sweep/include.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/files.h"
#include "core/hash.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

bool names_another(const Json& beneath, const Json& above) {
  const auto differs = [&](const char* key) {
    return beneath.contains(key) && above.contains(key) && beneath[key] != above[key];
  };
  return differs("variant") || differs("source");
}

/// Whether `path` is `root` or below it.
bool is_below(const std::string& path, const std::string& root) {
  return path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '.' || path[root.size()] == '[');
}

/// The places of what one document took from another are those of the other.
void take_places(JsonDocument& document, const JsonDocument& from, const std::vector<std::string>& taken) {
  const auto is_taken = [&](const std::string& path) {
    return std::any_of(taken.begin(), taken.end(), [&](const auto& root) { return is_below(path, root); });
  };
  for (const auto& [path, position] : from.positions)
    if (is_taken(path)) document.origins[path] = from.place(path);
  for (const auto& [path, origin] : from.origins)
    if (is_taken(path)) document.origins[path] = origin;
}

class Includer {
 public:
  Includer(int64_t most_bytes, std::vector<IncludedFile>& included) : most_bytes_(most_bytes), included_(included) {}

  JsonDocument read(const fs::path& file) {
    auto document = read_json(file, most_bytes_);
    if (!document.value.is_object() || !document.value.contains("include")) return document;
    const auto key = fs::weakly_canonical(file);
    open_.push_back(key);
    const auto names = names_in(document);
    document.value.erase("include");
    // From the highest to the lowest, each beneath what is there.
    for (size_t i = names.size(); i-- > 0;) lay_beneath(document, file, names[i].second, names[i].first);
    open_.pop_back();
    return document;
  }

 private:
  /// Places and names of what a document includes.
  static std::vector<std::pair<std::string, std::string>> names_in(const JsonDocument& document) {
    const Json& include = document.value["include"];
    std::vector<std::pair<std::string, std::string>> names;
    const auto add = [&](const Json& name, const std::string& path) {
      if (!name.is_string() || name.get_ref<const std::string&>().empty())
        document.refuse({{path, fmt::format("received {}, expected the path of a spec, relative to this file's folder, "
                                            "or a list of such paths",
                                            describe_value(name))}});
      names.emplace_back(path, name.get<std::string>());
    };
    if (!include.is_array()) add(include, "include");
    else
      for (size_t i = 0; i < include.size(); ++i) add(include[i], fmt::format("include[{}]", i));
    return names;
  }

  void lay_beneath(JsonDocument& document, const fs::path& file, const std::string& name, const std::string& path) {
    const auto place = file.parent_path() / name;
    std::error_code none;
    if (!fs::is_regular_file(place, none))
      document.refuse({{path, fmt::format("{}: no such file; expected a path relative to the folder of {}", name,
                                          file == "-" ? "where the program runs" : file.string())}});
    const auto key = fs::weakly_canonical(place);
    if (std::find(open_.begin(), open_.end(), key) != open_.end()) {
      std::vector<std::string> chain;
      for (const auto& one : open_) chain.push_back(one.filename().string());
      document.refuse({{path, fmt::format("{} includes itself: {} -> {}; take one of the includes out", name,
                                          fmt::join(chain, " -> "), key.filename().string())}});
    }
    auto beneath = read(place);
    remember(place);
    if (!beneath.value.is_object())
      beneath.refuse(
          {{"", fmt::format("received {}, expected an object with keys of a spec", describe_value(beneath.value))}});
    for (const auto* own : {"name", "description", "$schema"}) beneath.value.erase(own);
    std::vector<std::string> taken;
    document.value = merged(beneath.value, document.value, "", taken);
    take_places(document, beneath, taken);
  }

  void remember(const fs::path& place) {
    const auto name = place.lexically_normal().string();
    const auto same = [&](const IncludedFile& one) { return one.file == name; };
    if (std::none_of(included_.begin(), included_.end(), same)) included_.push_back({name, sha256_of_file(place)});
  }

  int64_t most_bytes_;
  std::vector<IncludedFile>& included_;
  std::vector<fs::path> open_;  ///< files whose includes are being read
};

}  // namespace

Json merged(const Json& beneath, const Json& above, const std::string& path, std::vector<std::string>& taken) {
  if (!beneath.is_object() || !above.is_object() || names_another(beneath, above)) return above;
  Json result = Json::object();
  for (const auto& [key, value] : beneath.items()) {
    const auto inside = join_path(path, key);
    if (above.contains(key)) result[key] = merged(value, above[key], inside, taken);
    else {
      result[key] = value;
      taken.push_back(inside);
    }
  }
  for (const auto& [key, value] : above.items())
    if (!result.contains(key)) result[key] = value;
  return result;
}

JsonDocument read_with_includes(const fs::path& file, int64_t most_bytes, std::vector<IncludedFile>& included) {
  return Includer(most_bytes, included).read(file);
}

}  // namespace attnscale

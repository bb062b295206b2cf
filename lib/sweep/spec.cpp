#include "sweep/spec.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/claim.h"
#include "core/nearest.h"
#include "core/options.h"
#include "sweep/ranges.h"
#include "sweep/spec_groups.h"

namespace attnscale {
namespace {

const std::vector<std::string> sections = {"model", "attention", "data", "train"};
const std::vector<std::string> spec_keys = {"$schema",  "name",   "description", "base",  "grid",
                                            "zip",      "random", "seeds",       "match", "exclude",
                                            "stopping", "claims", "include",     "groups"};

bool one_of(const std::string& word, const std::vector<std::string>& list) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

std::string first_segment(const std::string& path) { return path.substr(0, path.find('.')); }

class SpecReader {
 public:
  SpecReader(JsonDocument document, const std::vector<std::string>& assignments) {
    spec_.document = std::move(document);
    assign(assignments);
  }

  Spec read() {
    const Json& top = spec_.document.value;
    if (!top.is_object()) {
      problem("", fmt::format("received {}, expected an object with \"base\"", describe_value(top)));
      spec_.document.refuse(problems_);
    }
    for (const auto& [key, value] : top.items())
      if (!one_of(key, spec_keys)) problem(key, "unknown key" + suggestion(key, spec_keys));
    read_text(top);
    read_base(top);
    if (top.contains("grid")) read_grid(top["grid"]);
    if (top.contains("zip")) read_zips(top["zip"]);
    if (top.contains("random")) read_random(top["random"]);
    if (top.contains("seeds")) read_seeds(top["seeds"]);
    if (top.contains("match")) read_match(top["match"]);
    if (top.contains("exclude")) read_exclude(top["exclude"]);
    if (top.contains("stopping")) spec_.stopping = StoppingRule::from_json(top["stopping"], problems_);
    if (top.contains("claims")) read_claims(top["claims"], problems_);  // kept in the document, for `verdict`
    refuse_repeated_paths();
    spec_.document.refuse(problems_);
    return std::move(spec_);
  }

 private:
  void problem(const std::string& path, std::string message) { problems_.push_back({path, std::move(message)}); }

  // --set comes before everything else is read, so that its values meet the same checks.
  void assign(const std::vector<std::string>& assignments) {
    Json& top = spec_.document.value;
    if (!top.is_object()) return;
    for (const auto& text : assignments) {
      auto [path, value] = parse_assignment(text);
      const auto head = first_segment(path);
      if (one_of(head, sections)) {
        if (!top.contains("base")) top["base"] = Json::object();
        drop_axis(top, path);
        if (!top["base"].is_object()) continue;         // reported when base is read
        set_path(top["base"], path, std::move(value));  // may replace a whole section: `attention={...}`
        assigned_.push_back(path);
        path = "base." + path;
      } else if (one_of(head, {"grid", "zip", "match", "stopping"}) && path.size() > head.size()) {
        set_member(top, head, path.substr(head.size() + 1), std::move(value));
      } else if (one_of(path, spec_keys)) {
        top[path] = std::move(value);
      } else {
        auto known = sections;
        known.insert(known.end(), spec_keys.begin(), spec_keys.end());
        throw ConfigError(fmt::format("--set {}: unknown path{}", text, suggestion(head, known)));
      }
      spec_.document.origins[path] = "--set";
    }
    drop_whole_zip(top);
  }
  static void set_member(Json& top, const std::string& section, const std::string& key, Json value) {
    if (!top.contains(section) || !top[section].is_object()) top[section] = Json::object();
    top[section][key] = std::move(value);
  }
  static void drop_axis(Json& top, const std::string& path) {
    if (top.contains("grid") && top["grid"].is_object() && top["grid"].erase(path) > 0 && top["grid"].empty())
      top.erase("grid");
    if (path == "train.seed") top.erase("seeds");
  }

  /// The lists of a zip belong together: they go when all of them are replaced, and not one without the others.
  void drop_whole_zip(Json& top) {
    if (!top.contains("zip") || !top["zip"].is_object() || top["zip"].empty()) return;
    for (const auto& [path, values] : top["zip"].items())
      if (!one_of(path, assigned_)) return;
    top.erase("zip");
  }

  void read_text(const Json& top) {
    for (const auto* key : {"$schema", "name", "description"})
      if (top.contains(key) && !top[key].is_string())
        problem(key, fmt::format("received {}, expected a text", describe_value(top[key])));
    if (top.contains("name") && top["name"].is_string()) spec_.name = top["name"].get<std::string>();
    else spec_.name = std::filesystem::path(spec_.document.name).parent_path().filename().string();
    if (spec_.name.empty() || spec_.name == "." || spec_.name == "..") spec_.name = "sweep";
    const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; };
    if (!std::all_of(spec_.name.begin(), spec_.name.end(), plain) || spec_.name[0] == '.' || spec_.name.size() > 100)
      problem("name", "expected a folder name of letters, digits, '-', '_' and '.'; for example \"depth-width\"");
  }

  void read_base(const Json& top) {
    if (!top.contains("base")) return;
    if (!top["base"].is_object())
      return problem("base", fmt::format("received {}, expected an object", describe_value(top["base"])));
    spec_.base = top["base"];
  }

  /// A path that an axis may set: in one of the config's sections.
  bool check_axis_path(const std::string& where, const std::string& path) {
    if (one_of(first_segment(path), sections)) return true;
    std::vector<std::string> known;
    for (const auto& section : sections) known.push_back(section);
    problem(where, fmt::format("unknown path; an axis sets a path such as \"model.depth\"{}",
                               suggestion(first_segment(path), known)));
    return false;
  }

  void read_grid(const Json& grid) {
    if (!grid.is_object())
      return problem("grid",
                     fmt::format("received {}, expected an object: path -> list or range", describe_value(grid)));
    for (const auto& [path, values] : grid.items()) {
      const auto where = join_path("grid", path);
      if (!check_axis_path(where, path)) continue;
      Axis axis{where, {path}, {}, {}};
      const auto list = expand_values(values, where, problems_);
      for (size_t i = 0; i < list.size(); ++i) {
        axis.points.push_back({list[i]});
        axis.where.push_back({values.is_array() ? fmt::format("{}[{}]", where, i) : where});
      }
      spec_.axes.push_back(std::move(axis));
    }
  }

  void read_zips(const Json& zip) {
    if (zip.is_object()) return read_zip(zip, "zip");
    if (!zip.is_array())
      return problem("zip", fmt::format("received {}, expected an object: path -> list, or a list of such objects",
                                        describe_value(zip)));
    for (size_t i = 0; i < zip.size(); ++i) read_zip(zip[i], fmt::format("zip[{}]", i));
  }

  void read_zip(const Json& zip, const std::string& label) {
    if (!zip.is_object() || zip.empty())
      return problem(label, fmt::format("received {}, expected an object: path -> list", describe_value(zip)));
    Axis axis{label, {}, {}, {}};
    for (const auto& [path, values] : zip.items()) {
      const auto where = join_path(label, path);
      if (!check_axis_path(where, path)) continue;
      const auto list = expand_values(values, where, problems_);
      if (!axis.paths.empty() && list.size() != axis.points.size()) {
        problem(where,
                fmt::format("has {} values, but {} has {}; lists of a zip are walked together and must be equally long",
                            list.size(), axis.paths[0], axis.points.size()));
        continue;
      }
      axis.points.resize(list.size());
      axis.where.resize(list.size());
      for (size_t i = 0; i < list.size(); ++i) {
        axis.points[i].push_back(list[i]);
        axis.where[i].push_back(values.is_array() ? fmt::format("{}[{}]", where, i) : where);
      }
      axis.paths.push_back(path);
    }
    spec_.axes.push_back(std::move(axis));
  }

  void read_random(const Json& random) {
    struct Options {
      int64_t samples = 0;
      int64_t seed = 0;
    } options;
    if (!random.is_object())
      return problem("random",
                     fmt::format("received {}, expected {{\"samples\", \"seed\", \"axes\"}}", describe_value(random)));
    static const Fields fields = {
        field(&Options::samples, "samples", "points to draw").between(1, max_runs),
        field(&Options::seed, "seed", "seed of the draws").at_least(0),
    };
    Json own = random;
    own.erase("axes");
    read_fields(own, "random", fields, &options, problems_);
    if (!random.contains("samples")) problem("random", "\"samples\" is missing; say how many points to draw");
    if (!random.contains("axes") || !random["axes"].is_object() || random["axes"].empty())
      return problem(random.contains("axes") ? "random.axes" : "random",
                     "\"axes\" is missing or empty; expected an object: path -> {\"log\": [low, high]}");
    Axis axis{"random", {}, {}, {}};
    axis.points.resize(static_cast<size_t>(options.samples));
    axis.where.resize(axis.points.size());
    for (const auto& [path, range] : random["axes"].items()) {
      const auto where = join_path("random.axes", path);
      if (!check_axis_path(where, path)) continue;
      const auto values =
          draw_values(range, where, static_cast<uint64_t>(options.seed), path, options.samples, problems_);
      axis.paths.push_back(path);
      for (size_t i = 0; i < values.size(); ++i) {
        axis.points[i].push_back(values[i]);
        axis.where[i].push_back(where);
      }
    }
    spec_.axes.push_back(std::move(axis));
  }

  void read_seeds(const Json& seeds) {
    Axis axis{"seeds", {"train.seed"}, {}, {}};
    const auto is_count = [](const Json& v) { return v.is_number_unsigned() && v.get<uint64_t>() <= 1'000'000; };
    if (is_count(seeds) && seeds.get<uint64_t>() > 0) {
      for (uint64_t seed = 0; seed < seeds.get<uint64_t>(); ++seed) {
        axis.points.push_back({seed});
        axis.where.push_back({"seeds"});
      }
    } else if (seeds.is_array() && !seeds.empty()) {
      for (size_t i = 0; i < seeds.size(); ++i) {
        axis.points.push_back({seeds[i]});
        axis.where.push_back({fmt::format("seeds[{}]", i)});
      }
    } else {
      return problem("seeds", fmt::format("received {}, expected how many (from 1 to 1000000) or a list of seeds",
                                          describe_value(seeds)));
    }
    spec_.axes.push_back(std::move(axis));
  }

  /// A condition, or a list of them.
  void read_exclude(const Json& exclude) {
    const auto read_one = [&](const Json& condition, const std::string& where) {
      if (!condition.is_string())
        return problem(where, fmt::format("received {}, expected a condition such as \"depth > 4 and model_dim < 64\"",
                                          describe_value(condition)));
      try {
        spec_.exclude.emplace_back(where, Expression::parse(condition.get<std::string>()));
      } catch (const ConfigError& error) {
        problem(where, error.what());
      }
    };
    if (!exclude.is_array()) return read_one(exclude, "exclude");
    for (size_t i = 0; i < exclude.size(); ++i) read_one(exclude[i], fmt::format("exclude[{}]", i));
  }

  /// What is solved for must not be given by an axis too.
  void read_match(const Json& json) {
    spec_.match = Match::from_json(json, problems_);
    for (const auto& [path, value] : spec_.match->as.items()) check_axis_path(join_path("match.as", path), path);
    for (const auto& axis : spec_.axes)
      for (size_t p = 0; p < axis.paths.size(); ++p)
        for (const auto& point : axis.points)
          if (p < point.size() && sets(axis.paths[p], point[p], spec_.match->by)) {
            problem("match.by",
                    fmt::format("{} is solved for, but {} sets it; take one of them out", spec_.match->by, axis.label));
            return;
          }
  }

  /// Whether a value put at `path` gives `wanted` one: it is that path, or a section with it inside.
  static bool sets(const std::string& path, const Json& value, const std::string& wanted) {
    if (path == wanted) return true;
    if (!wanted.starts_with(path + ".")) return false;
    const Json* inside = &value;
    for (size_t at = path.size() + 1;;) {
      const auto dot = wanted.find('.', at);
      const auto key = wanted.substr(at, dot == std::string::npos ? dot : dot - at);
      if (!inside->is_object() || !inside->contains(key)) return false;
      if (dot == std::string::npos) return true;
      inside = &(*inside)[key];
      at = dot + 1;
    }
  }

  /// Two axes over one path, or over a section and something inside it, would overwrite each other.
  /// A value of --set must not be overwritten by an axis either.
  void refuse_repeated_paths() {
    std::vector<std::pair<std::string, std::string>> seen;  // path, label
    for (const auto& path : assigned_) seen.emplace_back(path, "--set");
    for (const auto& axis : spec_.axes)
      for (const auto& path : axis.paths) {
        for (const auto& [other, label] : seen)
          if (path == other || path.rfind(other + ".", 0) == 0 || other.rfind(path + ".", 0) == 0)
            problem(axis.label,
                    fmt::format("sets {}, which {} sets already as {}; {}", path, label, other,
                                label == "--set" && axis.paths.size() > 1
                                    ? fmt::format("{} are walked together, so give --set for all of them or for none",
                                                  fmt::join(axis.paths, ", "))
                                    : "keep one of them"));
        seen.emplace_back(path, axis.label);
      }
  }

  Spec spec_;
  std::vector<Problem> problems_;
  std::vector<std::string> assigned_;  ///< config paths of --set
};

}  // namespace

double Spec::num_runs() const {
  double runs = groups.empty() ? 1 : 0;
  for (const auto& group : groups) runs += group.num_runs();
  for (const auto& axis : axes) runs *= static_cast<double>(axis.points.size());
  return runs;
}

Spec read_spec(const std::filesystem::path& file, const std::vector<std::string>& assignments) {
  std::vector<IncludedFile> included;
  auto spec = spec_of(read_with_includes(file, max_spec_bytes, included), assignments);
  spec.included = std::move(included);
  return spec;
}

Spec spec_of(JsonDocument document, const std::vector<std::string>& assignments) {
  const auto read_one = [](JsonDocument one, const std::vector<std::string>& values) {
    return SpecReader(std::move(one), values).read();
  };
  return document.value.is_object() && document.value.contains("groups") ? read_groups(document, assignments, read_one)
                                                                         : read_one(std::move(document), assignments);
}

}  // namespace attnscale

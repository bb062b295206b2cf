#include "sweep/plan.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "core/json_paths.h"
#include "core/options.h"
#include "core/version.h"
#include "sweep/competition.h"
#include "sweep/derived.h"
#include "sweep/exclusion.h"
#include "sweep/spec_groups.h"
#include "train/config_resolver.h"

namespace attnscale {
namespace {

void refuse_too_many(const Spec& spec) {
  if (spec.num_runs() <= max_runs) return;
  std::string axes;
  for (const auto& group : spec.groups)
    axes += fmt::format("{}{} ({:.3g})", axes.empty() ? "of the groups " : " + ", group.group, group.num_runs());
  for (const auto& axis : spec.axes)
    axes += fmt::format("{}{} ({})", axes.empty() ? "" : " x ", axis.label, axis.points.size());
  spec.document.refuse(
      {{!spec.groups.empty() ? "groups"
        : spec.axes.empty()  ? ""
                             : spec.axes.front().label,
        fmt::format("the axes {} multiply to {:.3g} runs, expected at most {:.0f}; shorten them, or draw "
                    "samples with \"random\"",
                    axes, spec.num_runs(), max_runs)}});
}

/// Walks all points of the axes like an odometer, the last axis fastest.
class Odometer {
 public:
  explicit Odometer(const std::vector<Axis>& axes) : axes_(axes), digits_(axes.size(), 0) {}
  size_t operator[](size_t axis) const { return digits_[axis]; }
  bool next() {
    for (moved_ = axes_.size(); moved_-- > 0;) {
      if (++digits_[moved_] < axes_[moved_].points.size()) return true;
      digits_[moved_] = 0;
    }
    return false;
  }
  size_t moved() const { return moved_; }  ///< the first axis that is elsewhere than at the point before

 private:
  const std::vector<Axis>& axes_;
  std::vector<size_t> digits_;
  size_t moved_ = 0;
};

/// The config and the settings of a point, made from those of the point before.
class PointConfigs {
 public:
  explicit PointConfigs(const Spec& spec) : spec_(spec), given_(spec.base) {
    derives_ = is_derived(spec.base);
    bool seed_is_named = mentions_seed(spec.base);
    for (const auto& axis : spec.axes)
      for (const auto& point : axis.points)
        for (const auto& value : point)
          if (is_derived(value)) derives_ = true, seed_is_named = seed_is_named || mentions_seed(value);
    if (spec.match) matcher_.emplace(*spec.match);
    const bool has_seeds = !spec.axes.empty() && spec.axes.back().paths == std::vector<std::string>{"train.seed"};
    if (has_seeds && !seed_is_named) seeds_ = spec.axes.size() - 1;
  }

  /// @param found      what is wrong with derived values, by paths of the config
  /// @param unmatched  what is wrong with matching, by places of the spec
  /// @throws ConfigError if `base` has no room for what an axis sets
  void move_to(const Odometer& at, std::vector<Problem>& found, std::vector<Problem>& unmatched) {
    for (size_t i = at.moved(); i < spec_.axes.size(); ++i) {
      const auto& axis = spec_.axes[i];
      for (size_t p = 0; p < axis.paths.size(); ++p) {
        set_path(given_, axis.paths[p], axis.points[at[i]][p]);
        given_settings_[axis.paths[p]] = axis.points[at[i]][p];
      }
    }
    if (!derives_ && !matcher_) return;
    if (seeds_ && at.moved() == *seeds_ && settled_) {  // no derived value depends on it, and no size
      const auto& seed = spec_.axes[*seeds_].points[at[*seeds_]][0];
      set_path(config_, "train.seed", seed);
      settings_["train.seed"] = seed;
      return;
    }
    settled_ = false;
    config_ = given_;
    settings_ = given_settings_;
    matched_.reset();
    derive_values(config_, found);
    for (auto& [path, value] : settings_.items())
      if (is_derived(value)) value = at_path(config_, path);
    if (!matcher_ || !found.empty()) {
      settled_ = found.empty();
      return;
    }
    matched_ = matcher_->solve(config_, unmatched);
    if (const Json& solved = at_path(config_, spec_.match->by); matched_ && !solved.is_null())
      settings_[spec_.match->by] = solved;
    settled_ = matched_.has_value();
  }

  const Json& config() const { return derives_ || matcher_ ? config_ : given_; }
  const Json& settings() const { return derives_ || matcher_ ? settings_ : given_settings_; }
  const std::optional<Matched>& matched() const { return matched_; }

 private:
  const Spec& spec_;
  bool derives_ = false;
  std::optional<Matcher> matcher_;
  std::optional<size_t> seeds_;                   ///< the axis of seeds, where nothing else depends on them
  Json given_, given_settings_ = Json::object();  ///< as the axes set them
  Json config_, settings_;                        ///< derived and matched
  std::optional<Matched> matched_;
  bool settled_ = false;  ///< derived and matched without a problem
};

/// Where in the spec a config path was set at this point: by the axis that sets it or something around it, else in
/// base.
std::string spec_path(const Spec& spec, const Odometer& at, const std::string& config_path) {
  for (size_t i = 0; i < spec.axes.size(); ++i) {
    const auto& axis = spec.axes[i];
    for (size_t p = 0; p < axis.paths.size(); ++p) {
      const auto& set = axis.paths[p];
      const auto& place = axis.where[at[i]][p];
      if (config_path == set) return place;
      if (config_path.starts_with(set + ".")) return place + config_path.substr(set.size());
      // The problem concerns a whole section, and this axis set something inside it.
      if (set.starts_with(config_path + ".")) return place;
    }
  }
  return "base." + config_path;
}

/// A value in `base` that an axis replaces is never used, but it is wrong all the same, and says that the spec
/// is not what its author thinks.
void check_replaced_values(const Spec& spec, std::vector<Problem>& problems) {
  const std::pair<std::string, const Fields&> sections[] = {{"model", ModelOptions::fields()},
                                                            {"train", TrainOptions::fields()}};
  for (const auto& [section, fields] : sections)
    for (const auto& field : fields) {
      const auto path = join_path(section, field.name);
      const bool replaced = std::any_of(spec.axes.begin(), spec.axes.end(), [&](const Axis& axis) {
        return std::find(axis.paths.begin(), axis.paths.end(), path) != axis.paths.end();
      });
      const bool given =
          spec.base.contains(section) && spec.base[section].is_object() && spec.base[section].contains(field.name);
      if (!replaced || !given) continue;
      if (is_derived(spec.base[section][field.name])) continue;
      if (auto problem = field.problem_with(spec.base[section][field.name]); !problem.empty())
        problems.push_back({"base." + path, std::move(problem)});
    }
}

constexpr size_t most_problems = 50;  // a spec with one wrong value in its base would repeat it for each run

Plan plan_of_axes(const Spec& spec) {
  Plan plan;
  std::vector<Problem> problems;
  std::set<std::string> reported;
  std::unordered_set<std::string> ids;
  ConfigResolver resolver;
  check_replaced_values(spec, problems);
  PointConfigs point(spec);
  Exclusion exclusion(spec.exclude);
  plan.runs.reserve(static_cast<size_t>(spec.num_runs()));
  ids.reserve(plan.runs.capacity());
  Odometer at(spec.axes);
  do {
    std::vector<Problem> found, unmatched;
    try {
      point.move_to(at, found, unmatched);
    } catch (const ConfigError& error) {
      problems.push_back({"base", error.what()});
      break;
    }
    for (auto& problem : unmatched) {
      auto which = point.settings();
      which.erase("train.seed");  // the same for all of them
      if (!which.empty()) problem.message = fmt::format("for the run with {}: {}", which.dump(), problem.message);
      if (reported.insert(problem.path + problem.message).second) problems.push_back(std::move(problem));
    }
    std::optional<ResolvedRun> resolved;
    if (found.empty()) resolved = resolver.resolve(point.config(), found);
    for (auto& problem : found) {
      problem.path = spec_path(spec, at, problem.path);
      if (reported.insert(problem.path + problem.message).second) problems.push_back(std::move(problem));
    }
    if (problems.size() >= most_problems) break;
    if (!problems.empty()) continue;
    if (exclusion.holds(*resolved)) {
      ++plan.excluded;
      continue;
    }
    if (!ids.insert(resolved->id).second) {
      ++plan.repeated;
      continue;
    }
    plan.runs.push_back({std::move(*resolved), point.settings(), point.matched()});
  } while (at.next());
  if (problems.empty()) exclusion.report(problems);
  if (problems.empty() && plan.runs.empty())
    problems.push_back({"exclude", fmt::format("leaves out all {} runs; expected some to remain", plan.excluded)});
  spec.document.refuse(problems);
  return plan;
}

/// The groups' runs together. A config that several have runs once, and is in all of them.
Plan plan_of_groups(const Spec& spec) {
  Plan plan;
  std::unordered_map<std::string, size_t> place;
  GatheredErrors errors;
  for (const auto& group : spec.groups)
    errors.gather([&] {
      auto part = plan_of_axes(group);
      plan.repeated += part.repeated;
      plan.excluded += part.excluded;
      for (auto& run : part.runs) {
        const auto [found, is_new] = place.emplace(run.id, plan.runs.size());
        if (is_new) plan.runs.push_back(std::move(run));
        plan.runs[found->second].groups.push_back(group.group);
      }
    });
  errors.refuse();
  return plan;
}

}  // namespace

Plan make_plan(const Spec& spec) {
  refuse_too_many(spec);
  auto plan = spec.groups.empty() ? plan_of_axes(spec) : plan_of_groups(spec);
  plan.name = spec.name;
  plan.included = spec.included;
  std::vector<Problem> problems;
  if (spec.stopping) let_compete(plan, *spec.stopping, problems);
  spec.document.refuse(problems);
  return plan;
}

namespace {

/// Memory of the `jobs` largest runs, largest first.
std::vector<double> largest_runs(const Plan& plan, int jobs) {
  std::vector<double> bytes;
  bytes.reserve(plan.runs.size());
  for (const auto& run : plan.runs) bytes.push_back(run.peak_bytes);
  const auto most = std::min(bytes.size(), static_cast<size_t>(jobs));
  std::partial_sort(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(most), bytes.end(), std::greater<>());
  bytes.resize(most);
  return bytes;
}

}  // namespace

double memory_side_by_side(const Plan& plan, int jobs) {
  const auto bytes = largest_runs(plan, jobs);
  return std::accumulate(bytes.begin(), bytes.end(), 0.0);
}

int jobs_that_fit(const Plan& plan, int jobs, double memory_bytes) {
  int fit = 0;
  for (double sum = 0; const double bytes : largest_runs(plan, jobs)) {
    sum += bytes;
    if (sum > memory_bytes) return std::max(1, fit);
    ++fit;
  }
  return jobs;
}

Json Plan::to_json() const {
  Json list = Json::array();
  for (const auto& run : runs) {
    list.push_back({{"id", run.id},
                    {"settings", run.settings},
                    {"parameters", run.cost.parameters.to_json()},
                    {"tokens", run.tokens()},
                    {"flops", run.training_flops()},
                    {"training_bytes", static_cast<int64_t>(run.peak_bytes)},
                    {"config", run.config().to_json()}});
    if (!run.groups.empty()) list.back()["groups"] = run.groups;
    if (!run.competes_in.empty()) list.back()["competes_in"] = run.competes_in;
    if (run.matched)
      list.back()["matched"] = {{"by", run.matched->moved.front()},  {"moved", run.matched->moved},
                                {"quantity", run.matched->quantity}, {"target", run.matched->target},
                                {"reached", run.matched->reached},   {"residual", run.matched->residual()}};
  }
  Json json = {{"schema", "attnscale.plan/1"}, {"version", version},   {"name", name},
               {"num_runs", runs.size()},      {"repeated", repeated}, {"excluded", excluded}};
  for (const auto& file : included) json["included"].push_back({{"file", file.file}, {"sha256", file.sha256}});
  if (stopping) {
    const auto least = least_work(*this);
    json["stopping"] = stopping->to_json();
    json["least"] = {{"tokens", least.tokens}, {"flops", least.flops}};
  }
  json["runs"] = std::move(list);
  return json;
}

}  // namespace attnscale

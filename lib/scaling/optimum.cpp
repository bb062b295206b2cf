#include "scaling/optimum.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/json_paths.h"
#include "core/nearest.h"
#include "scaling/sweep_rows.h"
#include "scaling/vertex.h"

namespace attnscale {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

/// Where a setting's curve is least, over log2 of the option.
struct BestPoint {
  double octave = 0;  ///< log2 of the value
  double loss = 0;
  double sensitivity = 0;
  int edge = 0;          ///< as in Vertex
  bool between = false;  ///< likewise
};

/// The runs that `by` and `along` do not tell apart.
struct Setting {
  Json by = Json::object();
  std::optional<double> along = {};
  Json rest = {};                                           ///< the config without what is swept and the seed
  double cap = infinite;                                    ///< ln V, nats per token
  std::map<double, std::map<int64_t, double>> losses = {};  ///< by value, by seed; infinite where not finished
  std::set<int64_t> seeds = {};                             ///< that every value has
  size_t stopped = 0;                                       ///< runs that were stopped early
};

/// Without seeds of `left_out`. A value at which one seed did not finish counts as not finished.
std::vector<std::pair<double, double>> mean_curve(const Setting& setting, std::optional<int64_t> left_out) {
  std::vector<std::pair<double, double>> curve;
  for (const auto& [value, losses] : setting.losses) {
    double sum = 0, count = 0;
    for (const int64_t seed : setting.seeds)
      if (seed != left_out) {
        sum += losses.at(seed);
        ++count;
      }
    curve.emplace_back(std::log2(value), sum / count);
  }
  return curve;
}

std::optional<BestPoint> best_of(const Setting& setting, std::optional<int64_t> left_out = {}) {
  const auto curve = mean_curve(setting, left_out);
  const auto vertex = vertex_of_curve(curve);
  if (!vertex) return std::nullopt;
  BestPoint best{.octave = vertex->at, .loss = vertex->least, .edge = vertex->edge, .between = vertex->between};
  for (const auto& [octave, loss] : curve)
    best.sensitivity += (std::min(loss, setting.cap) - best.loss) / static_cast<double>(curve.size());
  return best;
}

/// What a function of the left-out seed says with all seeds, and by the jackknife how surely.
struct Jackknifed {
  double value = 0;
  std::optional<Estimate> estimate = {};  ///< nothing with one seed
};

using OfLeftOut = std::function<std::optional<double>(std::optional<int64_t>)>;

Jackknifed jackknife(const OfLeftOut& statistic, const std::set<int64_t>& seeds) {
  Jackknifed result{.value = *statistic({})};
  if (seeds.size() < 2) return result;
  std::vector<double> partial;
  for (const int64_t seed : seeds) {
    const auto value = statistic(seed);
    if (!value) return result;
    partial.push_back(*value);
  }
  const double n = static_cast<double>(seeds.size()), centre = mean(partial);
  double sum = 0;
  for (const double value : partial) sum += (value - centre) * (value - centre);
  result.estimate = Estimate{.value = result.value, .standard_error = std::sqrt((n - 1) / n * sum), .freedom = n - 1};
  return result;
}

Json with_interval(const Jackknifed& number, double level, const std::function<double(double)>& scale) {
  Json json = {{"value", scale(number.value)}};
  if (!number.estimate) return json;
  const auto interval = number.estimate->interval(level);
  json["low"] = scale(interval.low);
  json["high"] = scale(interval.high);
  return json;
}

double as_it_is(double value) { return value; }

/// The paths in which two configs differ.
std::string differences(const Json& one, const Json& other) {
  std::set<std::string> paths;
  const Json leaves = differing_leaves(one, other);
  for (const auto& [path, pair] : leaves.items()) paths.insert(path);
  return fmt::format("{}", fmt::join(paths, ", "));
}

double positive_at(const Json& row, const std::string& path, const char* what) {
  const auto number = number_at(row["config"], path);
  if (!number || *number <= 0)
    throw ConfigError(fmt::format("{} {}: run {} has {} there; expected a number above 0", what, path,
                                  row.value("id", ""), describe_value(at_path(row["config"], path))));
  return *number;
}

/// A path that no run has is a mistyped one; one that some runs lack has no effect in them.
void check_path(const std::vector<Json>& rows, const std::string& path, const char* what) {
  for (const auto& row : rows)
    if (row.contains("config") && !at_path(row["config"], path).is_null()) return;
  std::vector<std::string> known;
  for (const auto& row : rows)
    if (row.contains("config"))
      for (const auto& [name, value] : flatten(row["config"]))
        if (std::find(known.begin(), known.end(), name) == known.end()) known.push_back(name);
  const auto near = nearest_name(path, known);
  throw Error(fmt::format("{} {}: no run has it; {}", what, path,
                          near.empty() ? "see the paths in config of results.jsonl"
                                       : fmt::format("did you mean \"{}\"?", near)),
              ExitCode::usage);
}

std::vector<Setting> settings_of(const std::vector<Json>& rows, const OptimumQuestion& question) {
  check_path(rows, question.of, "--of");
  if (!question.along.empty()) check_path(rows, question.along, "--along");
  for (const auto& path : question.by) check_path(rows, path, "--by");
  std::vector<Setting> settings;
  for (const auto& row : rows) {
    if (!row.contains("config")) continue;
    Setting own;
    for (const auto& path : question.by) own.by[path] = at_path(row["config"], path);
    if (!question.along.empty()) own.along = positive_at(row, question.along, "--along");
    own.rest = row["config"];
    erase_path(own.rest, "train.seed");
    erase_path(own.rest, question.of);
    if (const auto vocabulary = number_at(row["config"], "model.vocab_size")) own.cap = std::log(*vocabulary);
    auto place = std::find_if(settings.begin(), settings.end(),
                              [&](const Setting& each) { return each.by == own.by && each.along == own.along; });
    if (place == settings.end()) place = settings.insert(place, own);
    if (place->rest != own.rest)
      throw ConfigError(fmt::format("runs that differ in {} would count as one setting; name it by --by or --along",
                                    differences(place->rest, own.rest)));
    const bool done = row.value("status", "done") == "done" && row.contains("loss");
    place->losses[positive_at(row, question.of, "--of")][row["config"]["train"].value("seed", int64_t{0})] =
        done ? row["loss"].get<double>() : infinite;
    if (row.value("status", "") == "stopped") ++place->stopped;
  }
  return settings;
}

void know_seeds(Setting& setting, const OptimumQuestion& question) {
  if (setting.losses.size() < 3)
    throw ConfigError(fmt::format("{}{}{} has {} value{} of {}; an optimum inside them needs at least 3",
                                  name_of_setting(setting.by), setting.by.empty() ? "" : ", ",
                                  setting.along ? fmt::format("{} {}", question.along, *setting.along) : "this sweep",
                                  setting.losses.size(), setting.losses.size() == 1 ? "" : "s", question.of));
  for (const auto& [seed, loss] : setting.losses.begin()->second) setting.seeds.insert(seed);
  for (const auto& [value, losses] : setting.losses)
    std::erase_if(setting.seeds, [&losses = losses](int64_t seed) { return !losses.count(seed); });
}

/// One setting with what is known of its optimum.
struct Found {
  const Setting* setting;
  BestPoint best;
};

Json describe(const Found& found, const OptimumQuestion& question) {
  const auto& setting = *found.setting;
  Json json = {{"by", setting.by}};
  if (setting.along) json["along"] = *setting.along;
  for (const char* key : {"values", "losses", "ranges", "not_finished"}) json[key] = Json::array();
  for (const auto& [value, losses] : setting.losses) {
    std::vector<double> finished;
    for (const int64_t seed : setting.seeds)
      if (std::isfinite(losses.at(seed))) finished.push_back(losses.at(seed));
    json["values"].push_back(value);
    if (finished.size() < setting.seeds.size()) json["not_finished"].push_back(value);
    if (finished.empty()) {
      json["losses"].push_back(nullptr);
      json["ranges"].push_back(nullptr);
      continue;
    }
    json["losses"].push_back(mean(finished));
    const auto [low, high] = std::minmax_element(finished.begin(), finished.end());
    json["ranges"].push_back({*low, *high});
  }
  json["seeds"] = setting.seeds.size();
  if (found.best.edge != 0) json["edge"] = found.best.edge < 0 ? "low" : "high";
  const auto number = [&](double BestPoint::*member) {
    return jackknife(
        [&](std::optional<int64_t> left_out) -> std::optional<double> {
          const auto best = best_of(setting, left_out);
          return best ? std::optional((*best).*member) : std::nullopt;
        },
        setting.seeds);
  };
  auto octave = number(&BestPoint::octave);
  if (!found.best.between) octave.estimate.reset();  // the values' spacing, not the seeds, says how sure it is
  json["optimum"] = with_interval(octave, question.level, [](double octaves) { return std::exp2(octaves); });
  json["loss"] = with_interval(number(&BestPoint::loss), question.level, as_it_is);
  json["sensitivity"] = with_interval(number(&BestPoint::sensitivity), question.level, as_it_is);
  return json;
}

/// Of one number of two settings, seeds left out of both together.
Jackknifed difference_of(const Setting& to, const Setting& from, double BestPoint::*member) {
  std::set<int64_t> seeds;
  std::set_intersection(to.seeds.begin(), to.seeds.end(), from.seeds.begin(), from.seeds.end(),
                        std::inserter(seeds, seeds.end()));
  const bool shared = seeds == to.seeds && seeds == from.seeds;
  return jackknife(
      [&](std::optional<int64_t> left_out) -> std::optional<double> {
        const auto a = best_of(to, left_out), b = best_of(from, left_out);
        return a && b ? std::optional((*a).*member - (*b).*member) : std::nullopt;
      },
      shared ? seeds : std::set<int64_t>{});
}

/// The widest distance along the axis within each group of `by`.
Json shifts_of(const std::vector<Found>& found, const OptimumQuestion& question) {
  std::vector<std::pair<const Found*, const Found*>> ends;
  for (const auto& each : found) {
    auto group = std::find_if(ends.begin(), ends.end(),
                              [&](const auto& pair) { return pair.first->setting->by == each.setting->by; });
    if (group == ends.end()) group = ends.insert(group, {&each, &each});
    if (*each.setting->along < *group->first->setting->along) group->first = &each;
    if (*each.setting->along > *group->second->setting->along) group->second = &each;
  }
  Json list = Json::array();
  for (const auto& [from, to] : ends) {
    if (from == to) continue;
    Json json = {{"by", from->setting->by}, {"from", *from->setting->along}, {"to", *to->setting->along}};
    auto octaves = difference_of(*to->setting, *from->setting, &BestPoint::octave);
    if (!from->best.between || !to->best.between) octaves.estimate.reset();
    json["octaves"] = with_interval(octaves, question.level, as_it_is);
    // An optimum beyond an end moves the difference to one side of what is seen.
    const int beyond_to = to->best.edge, beyond_from = -from->best.edge;
    if (beyond_to != 0 || beyond_from != 0)
      json["bounds"] = beyond_to * beyond_from < 0 ? "unknown" : beyond_to + beyond_from > 0 ? "at least" : "at most";
    list.push_back(std::move(json));
  }
  return list;
}

std::string verdict_of(const Found& a, const Found& b, const Json& difference, const OptimumQuestion& question) {
  for (const auto* each : {&a, &b})
    if (each->best.edge != 0)
      return fmt::format("no verdict: the least loss of {} stands at the {} end of {}; sweep further there",
                         name_of_setting(each->setting->by), each->best.edge < 0 ? "low" : "high", question.of);
  if (!difference.contains("low"))
    return fmt::format("no verdict: {}", a.setting->seeds.size() < 2 ? "one seed"
                                         : a.setting->seeds != b.setting->seeds
                                             ? "the seeds are not the same"
                                             : "without one of the seeds there is no optimum");
  const double low = difference["low"], high = difference["high"], value = difference["value"];
  if (low <= 0 && high >= 0)
    return fmt::format("{} and {} are not shown to differ ({:+.4g} nats per token, interval {:+.4g} to {:+.4g})",
                       name_of_setting(a.setting->by), name_of_setting(b.setting->by), value, low, high);
  const bool first = value < 0;
  return fmt::format("{} is better than {} by {:.4g} nats per token (interval {:.4g} to {:.4g}), each at its own {}",
                     name_of_setting((first ? a : b).setting->by), name_of_setting((first ? b : a).setting->by),
                     std::abs(value), first ? -high : low, first ? -low : high, last_part(question.of));
}

Json differences_of(const std::vector<Found>& found, const OptimumQuestion& question) {
  std::vector<std::pair<const Found*, const Found*>> pairs;
  for (size_t i = 0; i < found.size(); ++i)
    for (size_t j = i + 1; j < found.size(); ++j)
      if (found[i].setting->along == found[j].setting->along) pairs.emplace_back(&found[i], &found[j]);
  Json list = Json::array();
  const double level = 1 - (1 - question.level) / std::max(1.0, static_cast<double>(pairs.size()));
  for (const auto& [a, b] : pairs) {
    Json json = {{"a", a->setting->by}, {"b", b->setting->by}};
    if (a->setting->along) json["along"] = *a->setting->along;
    json["difference"] = with_interval(difference_of(*a->setting, *b->setting, &BestPoint::loss), level, as_it_is);
    json["level"] = level;
    json["verdict"] = verdict_of(*a, *b, json["difference"], question);
    list.push_back(std::move(json));
  }
  return list;
}

}  // namespace

Json optimum_report(const std::filesystem::path& folder, const OptimumQuestion& question) {
  const auto sweep = read_sweep_rows(folder, {}, /*keep_flagged=*/true);
  auto settings = settings_of(sweep.rows, question);
  for (auto& setting : settings) know_seeds(setting, question);
  std::stable_sort(settings.begin(), settings.end(),
                   [](const Setting& a, const Setting& b) { return a.along.value_or(0) < b.along.value_or(0); });
  Json notes = Json::array();
  std::vector<Found> found;
  for (const auto& setting : settings) {
    const auto name =
        fmt::format("{}{}{}", name_of_setting(setting.by), setting.by.empty() || !setting.along ? "" : ", ",
                    setting.along ? fmt::format("{} = {}", last_part(question.along), *setting.along) : "");
    if (setting.seeds.empty()) {
      notes.push_back(
          fmt::format("{}: no seed has a run at every value of {}; let the sweep finish", name, question.of));
      continue;
    }
    if (setting.stopped > 0)
      notes.push_back(
          fmt::format("{}: {} runs were stopped early and count as worse than the best; a value at which a "
                      "seed was stopped has no loss",
                      name, setting.stopped));
    const auto best = best_of(setting);
    if (best) found.push_back({&setting, *best});
    else
      notes.push_back(fmt::format("{}: no value of {} has all its runs done{}", name, question.of,
                                  setting.stopped > 0 ? "; take \"stopping\" out of the spec, and the same sweep lets "
                                                        "those go on that were stopped"
                                                      : ""));
  }
  Json report = {{"schema", "attnscale.optimum/1"}, {"of", question.of}};
  if (!question.along.empty()) report["along"] = question.along;
  report["by"] = question.by;
  report["level"] = question.level;
  report["settings"] = Json::array();
  for (const auto& each : found) {
    report["settings"].push_back(describe(each, question));
    if (each.best.edge == 0 && !each.best.between)
      notes.push_back(fmt::format(
          "{}: a run beside the best {} did not finish, so that the optimum is known to the spacing of "
          "the values only and has no interval; sweep values between",
          each.setting->by.empty() ? "this sweep" : name_of_setting(each.setting->by), last_part(question.of)));
    if (each.setting->seeds.size() == 1 && each.setting == found.front().setting)
      notes.push_back("one seed measures no chance: no number has an interval");
  }
  report["shifts"] = question.along.empty() ? Json::array() : shifts_of(found, question);
  report["differences"] = differences_of(found, question);
  report["notes"] = notes;
  return report;
}

}  // namespace attnscale

#include "report/claims.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/nearest.h"
#include "report/claim_columns.h"
#include "scaling/statistics.h"
#include "scaling/vertex.h"

namespace attnscale {
namespace {

constexpr double level_of_all = 0.95;
constexpr size_t most_seeds = 1000;  // that are worth proposing

/// One run of a side, with what the claim asks of it.
struct ClaimRun {
  Json seed, key, swept;        ///< key: the settings that it is paired by; swept: the value of tune or optimum
  std::optional<double> value;  ///< of the measure; nothing for one that diverged and counts as nothing
  std::optional<double> along;
  double loss = INFINITY;  ///< to tune by; infinite where it did not finish
};

/// Runs of one seed and setting, and over which value of `along`.
using Key = std::pair<std::string, std::optional<double>>;
/// By seed, in the order of the JSON text of seeds; nothing where a run diverged.
using Side = std::map<std::string, std::map<Key, std::optional<double>>>;
/// In place of a seed: the number that all seeds together have, where it is not their mean.
const std::string all_seeds = "all";

/// One claim over the runs of one table.
class ClaimQuestion {
 public:
  ClaimQuestion(const RunTable& table, const Claim& claim) : table_(table), claim_(claim), columns_(table) {}

  Json answer(double level) {
    bind();
    auto of = rows_of("of", of_), against = claim_.against ? rows_of("against", against_) : std::vector<size_t>();
    find_key(of, against);
    const Side one = side_of(of), other = side_of(against);
    Json json = {{"claim", claim_.text}, {"expected", claim_.expected()}};
    by_seed(one, other);
    judge(json, level);
    json["level"] = level;
    json["seeds"] = seeds_;
    json["runs"] = of.size() + against.size();
    json["diverged"] = diverged_;
    if (stopped_ > 0) json["stopped"] = stopped_;
    json["by_seed"] = Json::array();
    for (const double number : numbers_) json["by_seed"].push_back(shown(number));
    json["notes"] = notes_;
    return json;
  }

 private:
  [[noreturn]] void refuse(const std::string& message) const {
    throw ConfigError(fmt::format("{}: {}", claim_.place, message));
  }
  const char* swept_key() const { return claim_.tune.empty() ? "optimum" : "tune"; }
  double shown(double number) const { return claim_.ratio ? std::exp(number) : number; }

  void bind() {
    const auto add = [&](const char* key, const std::optional<Expression>& formula) -> std::optional<size_t> {
      if (!formula) return std::nullopt;
      try {
        return columns_.add(*formula);
      } catch (const ConfigError& error) {
        refuse(fmt::format("{}: {}", key, error.what()));
      }
    };
    measure_ = *add("measure", claim_.measure);
    of_ = add("of", claim_.of), against_ = add("against", claim_.against);
    along_ = add("along", claim_.along), diverged_as_ = add("diverged", claim_.diverged);
    for (const auto& path : {std::string("status"), std::string("loss"), std::string("train.seed")})
      own_slots_.push_back(columns_.slot(path));
    settings_ = table_.varying_settings();
    if (const auto& path = claim_.tune.empty() ? claim_.optimum : claim_.tune; !path.empty()) {
      try {
        swept_ = columns_.slot(swept_path_ = table_.resolve(path));
      } catch (const ConfigError& error) {
        refuse(fmt::format("{}: {}", swept_key(), error.what()));
      }
      if (std::find(settings_.begin(), settings_.end(), swept_path_) == settings_.end())
        refuse(fmt::format("{}: {} is the same in all runs; leave it out", swept_key(), swept_path_));
    }
    for (const auto& path : settings_) setting_slots_.push_back(columns_.slot(path));
    columns_.read();
  }

  std::vector<size_t> rows_of(const char* key, std::optional<size_t> condition) {
    std::vector<size_t> rows;
    for (size_t row = 0; row < columns_.rows(); ++row) {
      const auto& status = columns_.cell(row, own_slots_[0]);
      const bool ended = status == "done" || status == "diverged" || status == "stopped";
      if (!ended) continue;  // nothing that a rerun would not change
      try {
        if (!condition || columns_.holds(row, *condition)) rows.push_back(row);
      } catch (const ConfigError& error) {
        refuse(fmt::format("{}: {}", key, error.what()));
      }
    }
    if (rows.empty()) refuse(fmt::format("{}: holds for no run that has ended", key));
    return rows;
  }

  /// Settings that runs are paired by: what varies within a side, but for what tells the sides apart.
  void find_key(const std::vector<size_t>& of, const std::vector<size_t>& against) {
    std::set<std::string> apart = {"train.seed", swept_path_};
    for (const auto& condition : {against_ ? of_ : std::nullopt, against_, along_})
      if (condition) apart.merge(columns_.names(*condition));
    for (size_t i = 0; i < settings_.size(); ++i) {
      const auto varies = [&](const std::vector<size_t>& rows) {
        return std::any_of(rows.begin(), rows.end(), [&](size_t row) {
          return columns_.cell(row, setting_slots_[i]) != columns_.cell(rows.front(), setting_slots_[i]);
        });
      };
      if (!apart.contains(settings_[i]) && (varies(of) || varies(against))) key_.push_back(setting_slots_[i]);
    }
  }

  /// A number; nothing for a run that was stopped early, or that diverged where the claim does not say what it counts
  /// as.
  std::optional<double> value_of(size_t row) {
    if (columns_.cell(row, own_slots_[0]) == "stopped") {
      ++stopped_;
      return std::nullopt;
    }
    const bool diverged = columns_.cell(row, own_slots_[0]) == "diverged";
    if (diverged) ++diverged_;
    if (diverged && !diverged_as_) return std::nullopt;
    const auto value = columns_.value(row, diverged ? *diverged_as_ : measure_);
    if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
    if (!value.is_number())
      refuse(fmt::format("{} is {} in a run that {}; expected a number", diverged ? "diverged" : "measure",
                         describe_value(value), diverged ? "diverged" : "is done"));
    if (claim_.ratio && value.get<double>() <= 0)
      refuse(fmt::format("measure: a ratio of {}; expected numbers above 0", value.get<double>()));
    return claim_.ratio ? std::log(value.get<double>()) : value.get<double>();
  }

  Side side_of(const std::vector<size_t>& rows) {
    std::map<std::string, std::vector<ClaimRun>> groups;  // by everything but seed and tuned value
    for (const size_t row : rows) {
      ClaimRun run{.seed = columns_.cell(row, own_slots_[2]),
                   .key = Json::array(),
                   .swept = {},
                   .value = value_of(row),
                   .along = {}};
      for (const size_t slot : key_) run.key.push_back(columns_.cell(row, slot));
      if (swept_) run.swept = columns_.cell(row, *swept_);
      if (along_) {
        const auto x = columns_.value(row, *along_);
        if (!x.is_number()) refuse(fmt::format("along: is {} in a run; expected a number", describe_value(x)));
        run.along = x.get<double>();
      }
      const auto& loss = columns_.cell(row, own_slots_[1]);
      if (columns_.cell(row, own_slots_[0]) == "done" && loss.is_number()) run.loss = loss.get<double>();
      groups[canonical(Json{run.key, run.along.value_or(0)})].push_back(std::move(run));
    }
    Side side;
    for (auto& [text, group] : groups) {
      if (!claim_.optimum.empty()) {
        add_optimum(group, side);
        continue;
      }
      if (swept_) group = tuned(group);
      std::map<std::string, std::pair<double, int>> sums;
      for (const auto& run : group) {
        const Key key = {canonical(run.key), run.along};
        auto& into = side[canonical(run.seed)];
        auto& [sum, count] = sums[canonical(run.seed)];
        if (!run.value || (count > 0 && !into[key])) into[key] = std::nullopt;
        else into[key] = (sum + *run.value) / (count + 1);
        sum += run.value.value_or(0), ++count;
      }
    }
    return side;
  }

  /// Of each seed the runs with the value whose mean loss over the other seeds is least.
  std::vector<ClaimRun> tuned(const std::vector<ClaimRun>& group) {
    std::map<double, std::map<std::string, double>> losses;  // by value, by seed
    for (const auto& run : group) {
      if (!run.swept.is_number()) refuse(fmt::format("tune: {} is no number in a run", swept_path_));
      losses[run.swept.get<double>()][canonical(run.seed)] = run.loss;
    }
    std::vector<ClaimRun> chosen;
    for (const auto& run : group) {
      double best = INFINITY, value = losses.begin()->first;
      for (const auto& [tuned, by_seed] : losses) {
        double sum = 0, count = 0;
        for (const auto& [seed, loss] : by_seed)
          if (seed != canonical(run.seed) || by_seed.size() == 1) sum += loss, ++count;
        if (count > 0 && sum / count < best) best = sum / count, value = tuned;
      }
      if (run.swept != value) continue;
      const bool edge = losses.size() > 1 && (value == losses.begin()->first || value == losses.rbegin()->first);
      if (edge) at_edge_.insert(value);
      chosen.push_back(run);
    }
    return chosen;
  }

  /// log2 of the value of `optimum` at which the measure's mean over seeds is least: of all seeds together, and each
  /// seed's pseudo-value.
  void add_optimum(const std::vector<ClaimRun>& group, Side& side) {
    std::map<double, std::map<std::string, double>> curve;  // by octave, by seed; infinite where it counts as nothing
    std::set<std::string> seeds;
    for (const auto& run : group) {
      if (!run.swept.is_number() || run.swept <= 0)
        refuse(fmt::format("optimum: {} is {} in a run; expected a number above 0", swept_path_,
                           describe_value(run.swept)));
      curve[std::log2(run.swept.get<double>())][canonical(run.seed)] = run.value.value_or(INFINITY);
      seeds.insert(canonical(run.seed));
    }
    if (curve.size() < 3)
      refuse(fmt::format("optimum: {} has {} values in a setting; an optimum inside them needs at least 3", swept_path_,
                         curve.size()));
    for (const auto& [octave, losses] : curve)
      std::erase_if(seeds, [&losses = losses](const std::string& seed) { return !losses.contains(seed); });
    const auto without = [&](const std::string& left_out) {
      std::vector<std::pair<double, double>> means;
      for (const auto& [octave, losses] : curve) {
        double sum = 0, count = 0;
        for (const auto& seed : seeds)
          if (seed != left_out) sum += losses.at(seed), ++count;
        means.emplace_back(octave, sum / count);
      }
      return vertex_of_curve(means);
    };
    const Key key = {canonical(group.front().key), group.front().along};
    const auto whole = seeds.empty() ? std::nullopt : without("");
    if (!whole || !whole->between) {
      selected_ = true;
      if (whole && whole->edge != 0) at_edge_.insert(std::exp2(whole->at));
      else
        notes_.push_back(
            fmt::format("a run beside the best {} counts as nothing: say what by \"diverged\"", claim_.optimum));
    }
    side[all_seeds][key] = whole ? std::optional(whole->at) : std::nullopt;
    const auto n = static_cast<double>(seeds.size());
    for (const auto& seed : seeds) {
      const auto others = seeds.size() > 1 ? without(seed) : whole;
      side[seed][key] = whole && others ? std::optional(n * whole->at - (n - 1) * others->at) : std::nullopt;
    }
  }

  /// One number for each seed that has everything.
  void by_seed(const Side& one, const Side& other) {
    std::set<Key> all;
    for (const auto& [seed, values] : one)
      for (const auto& [key, value] : values)
        if (!claim_.against || std::any_of(other.begin(), other.end(),
                                           [&, &own = key](const auto& side) { return side.second.contains(own); }))
          all.insert(key);
    if (all.empty()) refuse("the two sides have no setting in common; see `attnscale runs` for what they vary in");
    size_t lost = 0, incomplete = 0;
    for (const auto& [seed, values] : one) {
      const auto beside = other.find(seed);
      bool complete = !claim_.against || beside != other.end(), known = true;
      for (const auto& key : all) {
        if (!complete) break;
        complete = values.contains(key) && (!claim_.against || beside->second.contains(key));
        if (complete) known = known && values.at(key) && (!claim_.against || beside->second.at(key));
      }
      if (!complete) ++incomplete;
      else if (!known) lost += seed == all_seeds ? 0 : 1;
      else if (seed == all_seeds) whole_ = number_of(all, values, claim_.against ? &beside->second : nullptr);
      else {
        numbers_.push_back(number_of(all, values, claim_.against ? &beside->second : nullptr));
        seeds_.push_back(Json::parse(seed));
      }
    }
    if (incomplete > 0)
      notes_.push_back(fmt::format("{} seeds lack runs that others have, and are left out", incomplete));
    if (lost > 0) {
      selected_ = true;
      notes_.push_back(
          stopped_ > 0
              ? fmt::format(
                    "{} of {} seeds have runs that were stopped early or diverged: what is left is a selection; "
                    "take \"stopping\" out of the spec, and the same sweep lets them go on",
                    lost, lost + numbers_.size())
              : fmt::format("{} of {} seeds have runs that diverged, and the claim does not say what they count "
                            "as (\"diverged\"): what is left is a selection",
                            lost, lost + numbers_.size()));
    }
    if (!at_edge_.empty())
      notes_.push_back(fmt::format("{} is best at an end of its swept values ({}){}", claim_.tune + claim_.optimum,
                                   fmt::join(at_edge_, ", "),
                                   claim_.optimum.empty() ? "" : ": the optimum is that far or further"));
  }

  double number_of(const std::set<Key>& all, const std::map<Key, std::optional<double>>& values,
                   const std::map<Key, std::optional<double>>* beside) const {
    std::map<std::string, std::vector<std::pair<double, double>>> curves;  // by setting: along, number
    for (const auto& key : all)
      curves[key.first].emplace_back(key.second.value_or(0), *values.at(key) - (beside ? *beside->at(key) : 0));
    double sum = 0;
    for (const auto& [setting, points] : curves) sum += along_ ? slope(points) : points.front().second;
    return sum / static_cast<double>(curves.size());
  }

  double slope(const std::vector<std::pair<double, double>>& points) const {
    double x = 0, y = 0, above = 0, below = 0;
    for (const auto& point : points) x += point.first, y += point.second;
    x /= static_cast<double>(points.size()), y /= static_cast<double>(points.size());
    for (const auto& point : points)
      above += (point.first - x) * (point.second - y), below += (point.first - x) * (point.first - x);
    if (!(below > 0)) refuse("along: has one value; a slope needs two");
    return above / below;
  }

  /// Half the width of the interval that `count` seeds have.
  static double half_width(double deviation, size_t count, double level) {
    const auto n = static_cast<double>(count);
    return student_t_quantile((1 + level) / 2, n - 1) * deviation / std::sqrt(n);
  }

  void judge(Json& json, double level) {
    json["verdict"] = "undecided";
    if (numbers_.empty()) return;
    const double centre = whole_.value_or(mean(numbers_)), deviation = standard_deviation(numbers_);
    json["estimate"] = shown(centre);
    const size_t count = numbers_.size();
    if (count < 2) {
      notes_.push_back("one seed measures no chance");
      json["more_seeds"] = 2;
      return;
    }
    const bool constant = deviation <= 1e-12 * std::max(1.0, std::abs(centre));
    if (constant) {
      const auto needed = static_cast<size_t>(std::ceil(std::log2(2 / (1 - level))));
      notes_.push_back(fmt::format("every seed gives the same: a sign test, which needs {} seeds", needed));
      if (selected_) return;
      if (count < needed) json["more_seeds"] = needed - count;
      else json["verdict"] = claim_.expects(shown(centre)) ? "holds" : "does not hold";
      return;
    }
    const double half = half_width(deviation, count, level);
    json["low"] = shown(centre - half);
    json["high"] = shown(centre + half);
    if (selected_) return;
    if (const auto verdict = verdict_with(centre, half); !verdict.empty()) json["verdict"] = verdict;
    else
      for (size_t n = count + 1; n <= most_seeds; ++n)
        if (!verdict_with(centre, half_width(deviation, n, level)).empty()) {
          json["more_seeds"] = n - count;
          return;
        }
  }

  /// Empty: undecided.
  std::string verdict_with(double centre, double half) const {
    const double low = shown(centre - half), high = shown(centre + half);
    if (claim_.expects(low) && claim_.expects(high)) return "holds";
    if ((claim_.above && high <= *claim_.above) || (claim_.below && low >= *claim_.below)) return "does not hold";
    return "";
  }

  const RunTable& table_;
  const Claim& claim_;
  ClaimColumns columns_;
  size_t measure_ = 0;
  std::optional<size_t> of_, against_, along_, diverged_as_, swept_;
  std::string swept_path_;  ///< of tune or optimum
  std::vector<std::string> settings_;
  std::vector<size_t> own_slots_, setting_slots_, key_;
  std::set<double> at_edge_;
  size_t diverged_ = 0, stopped_ = 0;
  bool selected_ = false;
  std::optional<double> whole_;
  std::vector<double> numbers_;
  std::vector<Json> seeds_;
  std::vector<std::string> notes_;
};

}  // namespace

Json claims_report(const RunTable& table, const std::vector<Claim>& claims, const std::string& name) {
  Json report = {
      {"schema", "attnscale.verdict/1"}, {"sweep", name}, {"level", level_of_all}, {"claims", Json::array()}};
  const double level = 1 - (1 - level_of_all) / static_cast<double>(std::max<size_t>(1, claims.size()));
  for (const auto& claim : claims) report["claims"].push_back(ClaimQuestion(table, claim).answer(level));
  return report;
}

Json claims_report(const std::filesystem::path& folder, const std::filesystem::path& spec) {
  const auto document = read_json(spec.empty() ? folder / "spec.json" : spec);
  if (!document.value.is_object() || !document.value.contains("claims"))
    throw DataError(
        fmt::format("{}: has no \"claims\"; write down what the sweep is to decide, such as "
                    "[{{\"claim\": \"deeper is better\", \"measure\": \"loss\", \"of\": \"depth > 2\", "
                    "\"against\": \"depth <= 2\", \"below\": 0}}]",
                    document.name));
  std::vector<Problem> problems;
  const auto claims = read_claims(document.value["claims"], problems);
  document.refuse(problems);
  return claims_report(RunTable::read(folder), claims, document.value.value("name", folder.filename().string()));
}

}  // namespace attnscale

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
#include "report/claim_judgement.h"
#include "scaling/vertex.h"

namespace attnscale {
namespace {

/// Settings, and over which value of `along`.
using Key = std::pair<std::string, std::optional<double>>;

/// One run of a side, with what the claim asks of it.
struct ClaimRun {
  std::string seed;
  Key key;
  Json swept;                   ///< the value of tune or optimum
  std::optional<double> value;  ///< of the measure; nothing for one that diverged and counts as nothing
  double loss = INFINITY;       ///< to tune by; infinite where it did not finish
};

/// The mean of the runs of one seed with one key; nothing where one of them diverged and counts as nothing.
struct Mean {
  double sum = 0, count = 0;
  bool lost = false;

  void add(const std::optional<double>& value) { sum += value.value_or(0), ++count, lost = lost || !value; }
  double value() const { return sum / count; }
};
/// By seed, in the order of the JSON text of seeds.
using Side = std::map<std::string, std::map<Key, Mean>>;
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
    keep_common(of, against);
    keep_complete(of, against);
    note_flags(of, against);
    Json json = {{"claim", claim_.text}, {"expected", claim_.expected()}};
    by_seed(side_of(of), side_of(against));
    judge(claim_, sample_, level, json, notes_);
    json["level"] = level;
    json["seeds"] = seeds_;
    json["runs"] = of.size() + against.size();
    json["diverged"] = diverged_;
    if (stopped_ > 0) json["stopped"] = stopped_;
    json["by_seed"] = Json::array();
    for (const double number : sample_.numbers) json["by_seed"].push_back(claim_.ratio ? std::exp(number) : number);
    json["notes"] = notes_;
    return json;
  }

 private:
  [[noreturn]] void refuse(const std::string& message) const {
    throw ConfigError(fmt::format("{}: {}", claim_.place, message));
  }
  const char* swept_key() const { return claim_.tune.empty() ? "optimum" : "tune"; }

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
    for (const auto& path :
         {std::string("status"), std::string("loss"), std::string("train.seed"), std::string("flags")})
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

  /// Runs that have ended; the seeds of the others are noted, since theirs is a number less.
  std::vector<size_t> rows_of(const char* key, std::optional<size_t> condition) {
    std::vector<size_t> rows;
    for (size_t row = 0; row < columns_.rows(); ++row) {
      const auto& status = columns_.cell(row, own_slots_[0]);
      // another may change with the next sweep
      const bool ended = status == "done" || status == "diverged" || status == "stopped";
      try {
        if (condition && !columns_.holds(row, *condition)) continue;
      } catch (const ConfigError& error) {
        if (!ended) continue;
        refuse(fmt::format("{}: {}", key, error.what()));
      }
      known_seeds_.insert(seed_of(row));
      if (ended) rows.push_back(row);
    }
    if (rows.empty()) refuse(fmt::format("{}: holds for no run that has ended", key));
    return rows;
  }

  std::string seed_of(size_t row) const { return canonical(columns_.cell(row, own_slots_[2])); }
  Json settings_of(size_t row, const std::vector<size_t>& slots) const {
    Json settings = Json::array();
    for (const size_t slot : slots) settings.push_back(columns_.cell(row, slot));
    return settings;
  }

  /// Settings that runs are paired by: what varies within a side, but for what tells the sides apart, and for what
  /// follows from that, as a feed-forward width does from a model's.
  void find_key(const std::vector<size_t>& of, const std::vector<size_t>& against) {
    std::set<std::string> apart = {"train.seed", swept_path_};
    for (const auto& condition : {against_ ? of_ : std::nullopt, against_, along_})
      if (condition) apart.merge(columns_.names(*condition));
    std::vector<size_t> apart_slots;
    for (size_t i = 0; i < settings_.size(); ++i)
      if (apart.contains(settings_[i])) apart_slots.push_back(setting_slots_[i]);
    for (size_t i = 0; i < settings_.size(); ++i) {
      const auto varies = [&](const std::vector<size_t>& rows) {
        return std::any_of(rows.begin(), rows.end(), [&](size_t row) {
          return columns_.cell(row, setting_slots_[i]) != columns_.cell(rows.front(), setting_slots_[i]);
        });
      };
      const auto follows = [&](const std::vector<size_t>& rows) {
        std::map<std::string, size_t> first;
        return std::all_of(rows.begin(), rows.end(), [&](size_t row) {
          const auto [known, added] = first.emplace(canonical(settings_of(row, apart_slots)), row);
          return columns_.cell(known->second, setting_slots_[i]) == columns_.cell(row, setting_slots_[i]);
        });
      };
      if (apart.contains(settings_[i])) {
        if (settings_[i] != "train.seed" && settings_[i] != swept_path_) named_.push_back(setting_slots_[i]);
      } else if ((varies(of) || varies(against)) && !(follows(of) && follows(against))) {
        key_.push_back(setting_slots_[i]);
        key_names_.push_back(settings_[i]);
      }
    }
  }

  Key key_of(size_t row) {
    std::optional<double> along;
    if (along_) {
      const auto x = columns_.value(row, *along_);
      if (!x.is_number()) refuse(fmt::format("along: is {} in a run; expected a number", describe_value(x)));
      along = x.get<double>();
    }
    return {canonical(settings_of(row, key_)), along};
  }

  /// Leaves out runs that have nothing beside them on the other side.
  void keep_common(std::vector<size_t>& of, std::vector<size_t>& against) {
    if (!claim_.against) return;
    std::set<Key> one, other;
    for (const size_t row : of) one.insert(key_of(row));
    for (const size_t row : against) other.insert(key_of(row));
    std::erase_if(of, [&](size_t row) { return !other.contains(key_of(row)); });
    std::erase_if(against, [&](size_t row) { return !one.contains(key_of(row)); });
    if (of.empty())
      refuse(
          fmt::format("the two sides have no setting in common; runs are paired by {}", fmt::join(key_names_, ", ")));
  }

  /// Leaves out seeds that lack a run which another seed has.
  void keep_complete(std::vector<size_t>& of, std::vector<size_t>& against) {
    std::set<std::string> complete = known_seeds_;
    for (const auto* rows : {&of, &against}) {
      std::map<std::string, std::set<std::string>> by_seed;
      std::set<std::string> all;
      for (const size_t row : *rows) {
        auto run = Json{canonical(settings_of(row, key_)), canonical(settings_of(row, named_))};
        if (swept_) run.push_back(columns_.cell(row, *swept_));
        by_seed[seed_of(row)].insert(canonical(run));
        all.insert(canonical(run));
      }
      if (!rows->empty()) std::erase_if(complete, [&](const auto& seed) { return by_seed[seed].size() < all.size(); });
    }
    const auto incomplete = [&](size_t row) { return !complete.contains(seed_of(row)); };
    std::erase_if(of, incomplete), std::erase_if(against, incomplete);
    if (const size_t lost = known_seeds_.size() - complete.size(); lost > 0)
      notes_.push_back(fmt::format("{} of {} seeds lack{} a run that others have, and {} left out", lost,
                                   known_seeds_.size(), lost == 1 ? "s" : "", lost == 1 ? "is" : "are"));
    int turn = 0;
    for (const auto& seed : complete) half_[seed] = turn++ % 2;
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

  void note_flags(const std::vector<size_t>& of, const std::vector<size_t>& against) {
    const auto flagged = [&](size_t row) { return !columns_.cell(row, own_slots_[3]).empty(); };
    const auto count =
        std::count_if(of.begin(), of.end(), flagged) + std::count_if(against.begin(), against.end(), flagged);
    if (count > 0) notes_.push_back(fmt::format("runs that carry flags count all the same: {} here", count));
  }

  Side side_of(const std::vector<size_t>& rows) {
    std::map<std::string, std::vector<ClaimRun>> groups;  // by everything but seed and swept value
    for (const size_t row : rows) {
      ClaimRun run{.seed = seed_of(row), .key = key_of(row), .swept = {}, .value = value_of(row)};
      if (swept_) run.swept = columns_.cell(row, *swept_);
      const auto& loss = columns_.cell(row, own_slots_[1]);
      if (columns_.cell(row, own_slots_[0]) == "done" && loss.is_number()) run.loss = loss.get<double>();
      groups[canonical(Json{run.key.first, settings_of(row, named_)})].push_back(std::move(run));
    }
    Side side;
    for (const auto& [text, group] : groups)
      if (!claim_.optimum.empty()) add_optimum(group, side);
      else
        for (const auto& run : swept_ ? tuned(group) : group) side[run.seed][run.key].add(run.value);
    return side;
  }

  /// Of each seed the run with the value whose mean loss over the other half of the seeds is least.
  std::vector<ClaimRun> tuned(const std::vector<ClaimRun>& group) {
    std::map<double, double> losses[2];  // by the half that is judged, by value: the sum over the other half
    for (const auto& run : group) {
      if (!run.swept.is_number()) refuse(fmt::format("tune: {} is no number in a run", swept_path_));
      losses[half_.size() == 1 ? 0 : 1 - half_.at(run.seed)][run.swept.get<double>()] += run.loss;
    }
    const auto least = [](const auto& one, const auto& other) { return one.second < other.second; };
    std::vector<ClaimRun> chosen;
    for (const auto& run : group) {
      const auto& values = losses[half_.at(run.seed)];
      const double value = std::min_element(values.begin(), values.end(), least)->first;
      if (run.swept != value) continue;
      if (values.size() > 1 && (value == values.begin()->first || value == values.rbegin()->first))
        at_edge_.insert(value);
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
      curve[std::log2(run.swept.get<double>())][run.seed] = run.value.value_or(INFINITY);
      seeds.insert(run.seed);
    }
    if (curve.size() < 3)
      refuse(fmt::format("optimum: {} has {} values in a setting; an optimum inside them needs at least 3", swept_path_,
                         curve.size()));
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
    const Key& key = group.front().key;
    const auto whole = seeds.empty() ? std::nullopt : without("");
    if (!whole || !whole->between) {
      sample_.selection = true;
      if (whole && whole->edge != 0) at_edge_.insert(std::exp2(whole->at));
      else
        notes_.push_back(
            fmt::format("a run beside the best {} counts as nothing: say what by \"diverged\"", claim_.optimum));
    }
    if (!whole) {
      side[all_seeds][key].add(std::nullopt);
      for (const auto& seed : seeds) side[seed][key].add(std::nullopt);
      return;
    }
    side[all_seeds][key].add(whole->at);
    const auto n = static_cast<double>(seeds.size());
    for (const auto& seed : seeds) {
      const auto others = seeds.size() > 1 ? without(seed) : whole;
      side[seed][key].add(others ? std::optional(n * whole->at - (n - 1) * others->at) : std::nullopt);
    }
  }

  /// One number for each seed.
  void by_seed(const Side& one, const Side& other) {
    size_t lost = 0;
    for (const auto& [seed, means] : one) {
      const auto* beside = claim_.against ? &other.at(seed) : nullptr;
      const auto is_lost = [](const auto& mean) { return mean.second.lost; };
      if (std::any_of(means.begin(), means.end(), is_lost) ||
          (beside && std::any_of(beside->begin(), beside->end(), is_lost)))
        lost += seed == all_seeds ? 0 : 1;
      else if (seed == all_seeds) sample_.whole = number_of(means, beside);
      else {
        sample_.numbers.push_back(number_of(means, beside));
        if (!claim_.tune.empty() && half_.size() > 1) sample_.halves.push_back(half_.at(seed));
        seeds_.push_back(Json::parse(seed));
      }
    }
    if (lost > 0) {
      sample_.selection = true;
      notes_.push_back(fmt::format(
          "{} of {} seeds have runs that {}", lost, lost + sample_.numbers.size(),
          stopped_ > 0 ? "were stopped early or diverged: what is left is a selection; take \"stopping\" out of the "
                         "spec, and the same sweep lets them go on"
                       : "diverged, and the claim does not say what they count as (\"diverged\"): what is left is a "
                         "selection"));
    }
    if (!at_edge_.empty())
      notes_.push_back(fmt::format("{} is best at an end of its swept values ({}){}", claim_.tune + claim_.optimum,
                                   fmt::join(at_edge_, ", "),
                                   claim_.optimum.empty() ? "" : ": the optimum is that far or further"));
  }

  double number_of(const std::map<Key, Mean>& means, const std::map<Key, Mean>* beside) const {
    std::map<std::string, std::vector<std::pair<double, double>>> curves;  // by setting: along, number
    for (const auto& [key, mean] : means)
      curves[key.first].emplace_back(key.second.value_or(0), mean.value() - (beside ? beside->at(key).value() : 0));
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
    if (!(below > 0))
      refuse(fmt::format("along: has one value{}; a slope needs two",
                         key_names_.empty() ? "" : fmt::format(" for each {}", fmt::join(key_names_, ", "))));
    return above / below;
  }

  const RunTable& table_;
  const Claim& claim_;
  ClaimColumns columns_;
  size_t measure_ = 0;
  std::optional<size_t> of_, against_, along_, diverged_as_, swept_;
  std::string swept_path_;  ///< of tune or optimum
  std::vector<std::string> settings_;
  std::vector<size_t> own_slots_, setting_slots_;
  std::vector<size_t> key_;    ///< settings that runs are paired by
  std::vector<size_t> named_;  ///< settings that the conditions or `along` name
  std::vector<std::string> key_names_;
  std::set<std::string> known_seeds_;
  std::map<std::string, int> half_;  ///< of the seeds that count
  std::set<double> at_edge_;
  size_t diverged_ = 0, stopped_ = 0;
  ClaimSample sample_;
  std::vector<Json> seeds_;
  std::vector<std::string> notes_;
};

}  // namespace

Json answer_to(const Claim& claim, const RunTable& table, double level) {
  return ClaimQuestion(table, claim).answer(level);
}

}  // namespace attnscale

#include "scaling/variant_report.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "scaling/compute_multiplier.h"
#include "scaling/matched_runs.h"
#include "scaling/ranking.h"
#include "scaling/sweep_rows.h"

namespace attnscale {
namespace {

constexpr size_t pairs_shown_unasked = 10;
constexpr double matched = 0.02;  // parameters within 2 % count as matched: widths come in steps

std::optional<double> learning_rate(const Json& row) {
  if (!row.contains("config") || !row["config"].contains("train")) return std::nullopt;
  const auto& train = row["config"]["train"];
  const auto found = train.find("learning_rate");
  if (found == train.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

bool is_sound(const Json& row, bool keep_flagged) {
  return row.value("status", "done") == "done" && row.contains("loss") &&
         (keep_flagged || !row.contains("flags") || row["flags"].empty());
}

std::vector<Point> sound_points(const std::vector<Point>& points, bool keep_flagged) {
  std::vector<Point> sound;
  for (const auto& point : points)
    if (point.done() && (keep_flagged || point.flags.empty())) sound.push_back(point);
  return sound;
}

struct BestRate {
  double rate = 0;
  bool at_edge = false;
};

/// Best rate of each variant among those at which all its sizes have a finished run.
std::map<std::string, BestRate> best_rates(const SweepRows& sweep, bool keep_flagged) {
  struct Seen {
    std::map<std::string, std::vector<double>> losses;  // by size
    bool stopped = false;                               // early, with some seed at some size: others did better
  };
  std::map<std::string, std::map<double, Seen>> variants;
  std::map<std::string, std::set<std::string>> sizes;
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    const auto rate = learning_rate(sweep.rows[i]);
    if (!rate) continue;
    const auto& variant = sweep.points[i].variant;
    auto& seen = variants[variant][*rate];
    if (sweep.rows[i].value("status", "") == "stopped") seen.stopped = true;
    if (!is_sound(sweep.rows[i], keep_flagged)) continue;
    Json config = sweep.rows[i]["config"];
    config["train"].erase("learning_rate");
    config.erase("attention");
    const auto size = cell_of(config);
    seen.losses[size].push_back(sweep.rows[i]["loss"].get<double>());
    sizes[variant].insert(size);
  }
  std::map<std::string, BestRate> best;
  for (const auto& [variant, rates] : variants) {
    double lowest = std::numeric_limits<double>::infinity();
    for (const auto& [rate, seen] : rates) {
      if (seen.stopped || seen.losses.size() < sizes[variant].size()) continue;
      double sum = 0;
      for (const auto& [size, losses] : seen.losses) sum += mean(losses);
      if (sum >= lowest) continue;
      lowest = sum;
      best[variant] = {rate, rates.size() > 1 && (rate == rates.begin()->first || rate == rates.rbegin()->first)};
    }
  }
  return best;
}

/// What early stopping took from the comparison.
std::vector<std::string> stopping_notes(const SweepRows& sweep, const std::map<std::string, BestRate>& best,
                                        bool swept) {
  std::map<std::string, size_t> stopped;
  for (size_t i = 0; i < sweep.rows.size(); ++i)
    if (sweep.rows[i].value("status", "") == "stopped") ++stopped[sweep.points[i].variant];
  std::vector<std::string> notes;
  for (const auto& [variant, count] : stopped) {
    const bool lost = swept && !best.contains(variant);
    notes.push_back(
        fmt::format("{}: {} runs were stopped early{}", variant, count,
                    lost    ? ", some at every learning rate, so that none is known to be its best and it is in no "
                              "comparison; take \"stopping\" out of the spec, and the same sweep lets them go on"
                    : swept ? " and count as worse than the best learning rate"
                            : " and are in no comparison"));
  }
  return notes;
}

/// Rows that are compared, with their variants.
struct ComparedRows {
  std::vector<Json> rows;
  std::vector<std::string> labels;
  std::vector<size_t> places;  ///< in the sweep
};

/// The rows at each variant's best rate, without the rate, so that runs of different rates can be pairs; all rows where
/// no rates were swept.
ComparedRows rows_at_best(const SweepRows& sweep, const std::map<std::string, BestRate>& best, bool swept) {
  ComparedRows chosen;
  for (size_t i = 0; i < sweep.rows.size(); ++i) {
    if (swept) {
      const auto rate = learning_rate(sweep.rows[i]);
      const auto found = best.find(sweep.points[i].variant);
      if (!rate || found == best.end() || *rate != found->second.rate) continue;
    }
    chosen.rows.push_back(sweep.rows[i]);
    if (swept) chosen.rows.back()["config"]["train"].erase("learning_rate");
    chosen.labels.push_back(sweep.points[i].variant);
    chosen.places.push_back(i);
  }
  return chosen;
}

std::vector<PairedRun> compared_runs(const SweepRows& sweep, const ComparedRows& chosen, bool swept, bool keep_flagged,
                                     const std::string& at) {
  if (!swept && at.empty()) return sweep.pairs;
  if (at.empty()) return paired_runs(chosen.rows, chosen.labels, keep_flagged);
  ComparedRows sound;
  for (size_t i = 0; i < chosen.rows.size(); ++i) {
    if (!is_sound(chosen.rows[i], keep_flagged) || chosen.labels[i].empty()) continue;
    sound.rows.push_back(chosen.rows[i]);
    sound.labels.push_back(chosen.labels[i]);
  }
  return runs_at_matched(sound.rows, sound.labels, at);
}

/// Difference of two estimates with the interval that their own intervals give: distances from the estimates add up as
/// squares (Zou and Donner 2008).
struct Difference {
  double value = 0, below = 0, above = 0;
};

Difference difference_of(double a, const Json& of_a, double b, const Json& of_b) {
  const auto apart = [](double one, double other) { return std::max(0.0, one - other); };
  return {.value = a - b,
          .below = std::hypot(apart(a, of_a[0].get<double>()), apart(of_b[1].get<double>(), b)),
          .above = std::hypot(apart(of_a[1].get<double>(), a), apart(b, of_b[0].get<double>()))};
}

/// Of the exponents that both variants' L(N, D) have an interval of; empty without.
Json exponent_differences(const PairComparison& pair, const Json& fits) {
  Json result = Json::object();
  const auto form_of = [&](const std::string& variant) -> const Json* {
    if (!fits.contains(variant)) return nullptr;
    const auto& forms = fits[variant]["forms"];
    const auto form = forms.find("L(N,D)");
    return form == forms.end() || form->contains("no_law") || !form->contains("intervals") ? nullptr : &*form;
  };
  const Json *a = form_of(pair.a), *b = form_of(pair.b);
  if (!a || !b) return result;
  // Beyond any freedom that tables have; the ratio of Student's quantiles is larger by little.
  constexpr double normal = 1e6;
  const double widening =
      student_t_quantile(0.5 + pair.corrected_level() / 2, normal) / student_t_quantile(0.975, normal);
  for (const char* name : {"alpha", "beta"}) {
    if (!(*a)["intervals"].contains(name) || !(*b)["intervals"].contains(name)) continue;
    const auto of = difference_of((*a)[name], (*a)["intervals"][name], (*b)[name], (*b)["intervals"][name]);
    result[name] = {{"value", of.value},
                    {"interval", {of.value - of.below, of.value + of.above}},
                    {"corrected_interval", {of.value - widening * of.below, of.value + widening * of.above}}};
  }
  return result;
}

/// What each variant's law is converted by; nothing for one that has none.
using ComputeLaws = std::map<std::string, std::optional<ComputeLaw>>;

std::optional<Json> multiplier_json(const PairComparison& pair, const ComputeLaws& laws) {
  const auto& law = laws.at(*pair.difference > 0 ? pair.a : pair.b);
  if (!law) return std::nullopt;
  const auto multiplier = multiplier_of(pair, *law, pair.corrected_level());
  if (!multiplier) return std::nullopt;
  Json json = {{"value", multiplier->value}, {"E", multiplier->E}, {"alpha", multiplier->alpha}, {"law", law->name}};
  if (multiplier->low && multiplier->high) json["interval"] = {*multiplier->low, *multiplier->high};
  else if (multiplier->low) json["at_least"] = *multiplier->low;
  return json;
}

std::string multiplier_interval(const Json& multiplier) {
  if (multiplier.contains("interval"))
    return fmt::format(" ({:.3g} to {:.3g})", multiplier["interval"][0].get<double>(),
                       multiplier["interval"][1].get<double>());
  if (multiplier.contains("at_least"))
    return fmt::format(" ({:.3g} or more: the points bound E and the exponents on one side only)",
                       multiplier["at_least"].get<double>());
  return " (no interval: the points do not bound E and the exponents)";
}

std::string sentence_of(const PairComparison& pair, const Json& entry, const std::map<std::string, BestRate>& best) {
  for (const auto& name : {pair.a, pair.b})
    if (const auto found = best.find(name); found != best.end() && found->second.at_edge)
      return fmt::format(
          "{} against {}: no evidence, because the best learning rate of {} ({:.3g}) is at the end of the "
          "swept range; sweep further",
          pair.a, pair.b, name, found->second.rate);
  if (!pair.over_sizes || pair.one_seed()) return fmt::format("{} against {}: {}", pair.a, pair.b, verdict_of(pair));
  const auto interval = pair.over_sizes->interval(pair.corrected_level());
  std::string text;
  if (pair.shown()) {
    const bool a_wins = *pair.difference < 0;
    text = fmt::format("{} is better than {} by {:.4g} nats per token (interval {:.4g} to {:.4g})",
                       a_wins ? pair.a : pair.b, a_wins ? pair.b : pair.a, std::abs(*pair.difference),
                       std::min(std::abs(interval.low), std::abs(interval.high)),
                       std::max(std::abs(interval.low), std::abs(interval.high)));
    if (entry.contains("compute_multiplier"))
      text += fmt::format(", worth {:.3g}x the compute{}", entry["compute_multiplier"]["value"].get<double>(),
                          multiplier_interval(entry["compute_multiplier"]));
  } else {
    text = fmt::format("{} and {} are not shown to differ ({:+.4g} nats per token, interval {:+.4g} to {:+.4g})",
                       pair.a, pair.b, *pair.difference, interval.low, interval.high);
    if (entry.contains("compute_multiplier"))
      text += fmt::format(", {:.3g}x in compute{}", entry["compute_multiplier"]["value"].get<double>(),
                          multiplier_interval(entry["compute_multiplier"]));
    if (entry.contains("seeds_needed"))
      text += fmt::format("; at these sizes {} seeds each would show a difference of that size",
                          entry["seeds_needed"].get<int>());
  }
  if (entry.contains("matched_parameters") && !entry["matched_parameters"].get<bool>())
    text += fmt::format("; parameters are NOT matched ({} has {:.3g} to {:.3g} times those of {})", pair.a,
                        pair.params_low, pair.params_high, pair.b);
  if (pair.lost > 0) text += fmt::format("; {} pairs are lost to runs that did not finish", pair.lost);
  return text;
}

double seed_deviation(const PairComparison& pair) {
  double inverse = 0;
  for (const auto& cell : pair.cells) inverse += 1 / static_cast<double>(cell.differences.size());
  return pair.at_these_sizes->standard_error * static_cast<double>(pair.cells.size()) / std::sqrt(inverse);
}

}  // namespace

int seeds_needed(double effect, double deviation, size_t sizes, double level) {
  const auto count = static_cast<double>(sizes);
  const auto enough = [&](double seeds) {
    const double freedom = count * (seeds - 1);
    const double reach = student_t_quantile(0.5 + level / 2, freedom) + student_t_quantile(0.8, freedom);
    return reach * deviation / std::sqrt(count * seeds) <= std::abs(effect);
  };
  int high = 2;
  while (!enough(high)) {
    if (high >= 1000000) return 0;
    high *= 2;
  }
  int low = std::max(1, high / 2);  // not enough, or the fewest that can be
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (enough(middle) ? high : low) = middle;
  }
  return high;
}

Json variant_report(const std::filesystem::path& folder, const FitReportOptions& options,
                    const CompareOptions& compare) {
  const auto sweep = read_sweep_rows(folder, {}, options.keep_flagged, compare.only);
  const auto best = best_rates(sweep, options.keep_flagged);
  std::set<double> rates;
  for (const auto& row : sweep.rows)
    if (const auto rate = learning_rate(row)) rates.insert(*rate);
  const bool swept = rates.size() > 1;
  const auto chosen = rows_at_best(sweep, best, swept);
  auto runs = compared_runs(sweep, chosen, swept, options.keep_flagged, compare.at);
  constexpr int permutations = 200;
  const double shown_by_chance =
      compare.shuffle_labels ? share_shown_when_shuffled(runs, compare.seed + 1, permutations) : 0;
  if (compare.shuffle_labels) runs = with_shuffled_labels(std::move(runs), compare.seed);
  const auto comparisons = compare_all(runs);
  if (comparisons.empty())
    throw DataError(fmt::format("{}: has fewer than two variants to compare; sweep attention over two or more",
                                (folder / "results.jsonl").string()));

  Json fits = Json::object();
  std::map<std::string, std::vector<Point>> by_variant;
  for (const size_t i : chosen.places) by_variant[sweep.points[i].variant].push_back(sweep.points[i]);
  auto quick = options;
  quick.replicates = 200;  // intervals of cells are profiles; those of whole runs need these
  ComputeLaws laws;
  for (const auto& [variant, points] : by_variant) {
    fits[variant] = fit_report(points, quick);
    laws[variant] = compute_law(fits[variant]["forms"], sound_points(points, options.keep_flagged), variant);
  }

  Json report = {{"schema", "attnscale.compare/1"}, {"sweep", folder.filename().string()}};
  report["learning_rate"] = {{"swept", swept}, {"best", Json::array()}};
  if (swept)
    for (const auto& [variant, rate] : best)
      report["learning_rate"]["best"].push_back({{"variant", variant}, {"rate", rate.rate}, {"at_edge", rate.at_edge}});
  std::set<std::string> without_evidence;
  if (swept)
    for (const auto& pair : comparisons)
      for (const auto& name : {pair.a, pair.b})
        if (const auto found = best.find(name); found != best.end() && found->second.at_edge)
          without_evidence.insert(name);
  report["ranking"] = ranking_json(rank_variants(comparisons, without_evidence));
  report["comparisons"] = compare_variants(runs);
  for (size_t i = 0; i < comparisons.size(); ++i) {
    const auto& pair = comparisons[i];
    auto& entry = report["comparisons"][i];
    if (pair.params_ratio > 0) {
      entry["params_low"] = pair.params_low;
      entry["params_high"] = pair.params_high;
    }
    if (!compare.shuffle_labels)
      if (auto exponents = exponent_differences(pair, fits); !exponents.empty())
        entry["exponent_difference"] = std::move(exponents);
    // A frontier at equal FLOPs, seconds or bytes has no parameters of its own.
    if (compare.at == "parameters" || pair.params_low > 0)
      entry["matched_parameters"] =
          compare.at == "parameters" || (pair.params_low > 1 - matched && pair.params_high < 1 + matched);
    if (pair.difference && (compare.at.empty() || compare.at == "flops"))
      if (auto multiplier = multiplier_json(pair, laws)) entry["compute_multiplier"] = std::move(*multiplier);
    if (pair.at_these_sizes && *pair.difference != 0)
      if (const int seeds =
              seeds_needed(*pair.difference, seed_deviation(pair), pair.cells.size(), pair.corrected_level()))
        entry["seeds_needed"] = seeds;
    entry["sentence"] = sentence_of(pair, entry, swept ? best : std::map<std::string, BestRate>());
  }
  auto notes = sweep.notes;
  if (!compare.at.empty()) {
    report["at"] = compare.at;
    notes.push_back(fmt::format(
        "compared at equal {}: the frontier of each variant and seed, straight in its logarithm between runs",
        compare.at));
  }
  if (compare.shuffle_labels) {
    report["shuffled"] = {{"seed", compare.seed}, {"permutations", permutations}, {"share_shown", shown_by_chance}};
    notes.push_back(
        fmt::format("LABELS ARE SHUFFLED: nothing above is about the variants; in {:.1f} % of {} shuffles any "
                    "pair is shown to differ (wanted: 5 % or less)",
                    100 * shown_by_chance, permutations));
  }
  for (auto& note : stopping_notes(sweep, best, swept)) notes.push_back(std::move(note));
  if (!swept)
    notes.push_back("all runs have one learning rate, tuned for no variant: a variant that wants another one loses");
  // Variants without a common size say nothing about seeds.
  const auto any = [&](auto which) { return std::any_of(comparisons.begin(), comparisons.end(), which); };
  if (any([](const auto& pair) { return pair.one_seed(); }) &&
      !any([](const auto& pair) { return !pair.cells.empty() && !pair.one_seed(); }))
    notes.push_back("one seed per size: differences between variants cannot be told from chance; run 3 seeds or more");
  if (comparisons.front().comparisons > 1)
    notes.push_back(
        fmt::format("{} comparisons: verdicts by Holm's and intervals by Bonferroni's correction hold together "
                    "at 95 %",
                    comparisons.front().comparisons));
  report["notes"] = notes;
  return report;
}

std::string variant_text(const Json& report, bool all_pairs) {
  const auto& pairs = report["comparisons"];
  std::string text;
  if (!report["ranking"].empty())
    text +=
        "from the best to the worst, in nats per token above the best; those that share a letter are not shown to "
        "differ:\n" +
        ranking_text(report["ranking"]) + "\n";
  if (all_pairs || report["ranking"].empty() || pairs.size() <= pairs_shown_unasked)
    for (const auto& entry : pairs) text += entry["sentence"].get<std::string>() + ".\n";
  else text += fmt::format("a sentence for each of the {} pairs: --pairs\n", pairs.size());
  for (const auto& note : report["notes"]) text += "note: " + note.get<std::string>() + "\n";
  return text;
}

}  // namespace attnscale

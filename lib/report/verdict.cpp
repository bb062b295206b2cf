#include "report/verdict.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "core/units.h"
#include "report/compare.h"
#include "report/figure_parts.h"
#include "report/text.h"

namespace attnscale {
namespace {

std::string runs_sentence(const Sweep& sweep) {
  std::set<std::pair<double, double>> sizes;
  std::set<double> seeds;
  for (const Run& run : sweep.runs) {
    sizes.insert({run.depth.value_or(0), run.model_dim.value_or(0)});
    if (run.seed) seeds.insert(*run.seed);
  }
  std::vector<std::string> names;
  for (const std::string& variant : sweep.variants) names.push_back(label(variant));
  std::string text =
      fmt::format("{} of {} ({}) at {} of depth and width with {}: {} finished", counted(sweep.runs.size(), "run"),
                  counted(names.size(), "attention variant"), joined(names, ", "), counted(sizes.size(), "combination"),
                  counted(seeds.size(), "seed"), sweep.count("done"));
  std::set<std::string> statuses;
  for (const Run& run : sweep.runs)
    if (run.status != "done") statuses.insert(run.status);
  for (const std::string& status : statuses) text += fmt::format(", {} {}", sweep.count(status), label(status));
  return text + ".";
}

std::string best_sentence(const Cell& best) {
  std::string text =
      fmt::format("The lowest loss is {} nats per token ({}", loss_text(best.loss->mean), size_text(best));
  if (best.params) text += fmt::format(", {} parameters", count_text(*best.params));
  if (best.loss->count == 1) return text + "; one seed, so its uncertainty is not known).";
  return text + fmt::format("; mean of {}, {} to {}).", counted(best.loss->count, "seed"), loss_text(best.loss->low),
                            loss_text(best.loss->high));
}

std::string comparison_phrase(const PairComparison& summary) {
  const std::string name = label(summary.a);
  if (!summary.over_sizes) {
    return fmt::format("{} differs by {:+.4f} nats per token, and with one pair nobody can say whether that is chance",
                       name, *summary.difference);
  }
  if (summary.one_seed())
    return fmt::format(
        "{} differs by {:+.4f} nats per token, and with one seed per size nobody can say whether that is "
        "chance",
        name, *summary.difference);
  const auto [low, high] = summary.over_sizes->interval(summary.corrected_level());
  if (!summary.shown()) {
    return fmt::format("{} cannot be told apart ({:+.4f}, interval {:+.4f} to {:+.4f})", name, *summary.difference, low,
                       high);
  }
  return fmt::format("{} is {:.4f} nats per token {} (interval {:.4f} to {:.4f})", name, std::abs(*summary.difference),
                     *summary.difference < 0 ? "better" : "worse", std::min(std::abs(low), std::abs(high)),
                     std::max(std::abs(low), std::abs(high)));
}

std::string comparison_sentence(const ReferenceComparison& comparison) {
  std::vector<std::string> phrases;
  size_t tested = 1;
  for (const PairComparison& summary : comparison.summaries) {
    phrases.push_back(comparison_phrase(summary));
    tested = std::max(tested, summary.comparisons);
  }
  return fmt::format("Against {}, run for run with equal depth, width, data and seed: {}. {}",
                     label(comparison.reference), joined(phrases, "; "),
                     tested == 1 ? "Intervals are 95 %."
                                 : fmt::format("The intervals of the {} comparisons hold together at 95 %.", tested));
}

std::string covers(const Law& law, const KnownTruth& truth) {
  const auto interval = law.intervals.find("E");
  if (interval == law.intervals.end()) return "";
  const auto [low, high] = interval->second;
  return low <= truth.loss && truth.loss <= high ? ", which the interval covers"
                                                 : ", which the interval does not cover";
}

std::string law_sentence(const Law& law, const Law* paired, const std::optional<KnownTruth>& truth) {
  std::string text = fmt::format("The fitted irreducible loss ({}, {}) is {} nats per token", law.form,
                                 law.series == "all" ? "all runs" : label(law.series), irreducible_text(law));
  if (!truth) return text + ".";
  text += fmt::format("; the true {} is {}{}.", truth->name, loss_text(truth->loss), covers(law, *truth));
  if (!paired) return text;
  return text + fmt::format(" The sharper fit of the paired excess gives {}{}.", irreducible_text(*paired),
                            covers(*paired, *truth));
}

std::string flagged_sentence(size_t flagged) {
  return fmt::format("{} {} flagged and left out of means, fits and comparisons; see what went wrong.",
                     counted(flagged, "run"), flagged == 1 ? "is" : "are");
}

}  // namespace

const Law* headline_law(const Sweep& sweep) {
  const bool tokens_vary = distinct(sweep, &Cell::tokens).size() > 1;
  std::vector<std::string> forms = {"L(N,D)", "L(N)"};
  if (!tokens_vary) std::swap(forms[0], forms[1]);
  std::vector<std::string> series = {"all"};
  series.insert(series.end(), sweep.variants.begin(), sweep.variants.end());
  for (const std::string& name : series)
    for (const std::string& form : forms)
      if (const Law* law = sweep.law(name, form); law && !law->no_law) return law;
  return nullptr;
}

const Cell* best_cell(const Sweep& sweep) {
  const Cell* best = nullptr;
  for (const Cell& cell : sweep.cells)
    if (cell.loss && (!best || cell.loss->mean < best->loss->mean)) best = &cell;
  return best;
}

std::vector<std::string> verdict(const Sweep& sweep) {
  std::vector<std::string> sentences = {runs_sentence(sweep)};
  if (const Cell* best = best_cell(sweep)) sentences.push_back(best_sentence(*best));
  else sentences.push_back("No run finished, so there is no loss to report.");
  const ReferenceComparison comparison = compare_with_reference(sweep);
  if (!comparison.summaries.empty()) sentences.push_back(comparison_sentence(comparison));
  if (const Law* law = headline_law(sweep))
    sentences.push_back(law_sentence(*law, sweep.law(law->series, law->form, true), sweep.truth));
  if (const auto flagged = std::count_if(sweep.runs.begin(), sweep.runs.end(),
                                         [](const Run& run) { return run.done() && !run.sound(); }))
    sentences.push_back(flagged_sentence(static_cast<size_t>(flagged)));
  if (sweep.planned > sweep.runs.size()) {
    sentences.push_back(
        fmt::format("{} of {} planned runs have no result yet.", sweep.planned - sweep.runs.size(), sweep.planned));
  }
  return sentences;
}

std::string irreducible_text(const Law& law) {
  std::string text = loss_text(law.irreducible);
  if (const auto interval = law.intervals.find("E"); interval != law.intervals.end()) {
    text +=
        fmt::format(" (95 % interval {} to {})", loss_text(interval->second.first), loss_text(interval->second.second));
  }
  return text;
}

std::string size_text(const Cell& cell) {
  std::string text = label(cell.variant);
  if (cell.depth) text += ", depth " + exact_text(*cell.depth);
  if (cell.model_dim) text += ", width " + exact_text(*cell.model_dim);
  if (!cell.settings.empty()) text += ", " + label(cell.settings);
  return text;
}

}  // namespace attnscale

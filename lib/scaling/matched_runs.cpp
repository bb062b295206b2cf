#include "scaling/matched_runs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <random>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace attnscale {
namespace {

constexpr int most_amounts = 6;

std::optional<double> amount_of(const Json& row, const std::string& quantity) {
  const auto number = [](const Json& object, const char* key) -> std::optional<double> {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_number() || !(found->get<double>() > 0)) return std::nullopt;
    return found->get<double>();
  };
  if (quantity == "parameters") return number(row, "params");
  if (quantity != "seconds") return number(row, quantity.c_str());
  const auto timing = row.find("timing");
  return timing == row.end() || !timing->is_object() ? std::nullopt : number(*timing, "seconds");
}

using Frontier = std::vector<std::pair<double, double>>;  // amount, loss: both strictly better one way

Frontier frontier_of(Frontier runs) {
  std::sort(runs.begin(), runs.end());
  Frontier kept;
  for (const auto& run : runs) {
    if (!kept.empty() && run.second >= kept.back().second) continue;
    if (!kept.empty() && run.first <= kept.back().first * (1 + 1e-9)) kept.back() = run;
    else kept.push_back(run);
  }
  return kept;
}

double loss_at(const Frontier& frontier, double amount) {
  const auto above = std::lower_bound(frontier.begin(), frontier.end(), std::pair(amount * (1 - 1e-12), -1e300));
  if (above == frontier.begin()) return above->second;
  if (above == frontier.end()) return frontier.back().second;
  const auto below = above - 1;
  const double share = std::log(amount / below->first) / std::log(above->first / below->first);
  return below->second + share * (above->second - below->second);
}

}  // namespace

const std::vector<std::string>& matched_quantities() {
  static const std::vector<std::string> names = {"flops", "seconds", "state_bytes", "parameters"};
  return names;
}

std::vector<PairedRun> runs_at_matched(const std::vector<Json>& rows, const std::vector<std::string>& labels,
                                       const std::string& quantity) {
  std::vector<std::string> order;
  std::map<std::string, std::map<int64_t, Frontier>> frontiers;  // variant -> seed
  std::map<std::string, std::pair<double, double>> ranges;
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto amount = amount_of(rows[i], quantity);
    if (!amount)
      throw DataError(fmt::format("a run of {} has no {}: compare at another quantity", labels[i], quantity));
    if (!frontiers.count(labels[i])) order.push_back(labels[i]);
    frontiers[labels[i]][rows[i].value("seed", int64_t{0})].emplace_back(*amount, rows[i]["loss"].get<double>());
  }
  double low = 0, high = std::numeric_limits<double>::infinity();
  for (auto& [variant, seeds] : frontiers) {
    double first = 0, last = std::numeric_limits<double>::infinity();
    for (auto& [seed, runs] : seeds) {
      // The range is that of all runs: beyond the last one that helped, more brings nothing.
      const auto [least, most] = std::minmax_element(runs.begin(), runs.end());
      first = std::max(first, least->first);
      last = std::min(last, most->first);
      runs = frontier_of(std::move(runs));
    }
    ranges[variant] = {first, last};
    low = std::max(low, first);
    high = std::min(high, last);
  }
  if (!(low < high)) {
    std::vector<std::string> texts;
    for (const auto& [variant, range] : ranges)
      texts.push_back(fmt::format("{} {:.3g} to {:.3g}", variant, range.first, range.second));
    throw DataError(fmt::format("no amount of {} is common to all variants ({}): sweep sizes whose ranges overlap",
                                quantity, fmt::join(texts, "; ")));
  }
  size_t shortest = most_amounts + 1;
  for (const auto& [variant, seeds] : frontiers)
    for (const auto& [seed, frontier] : seeds)
      shortest = std::min(shortest, static_cast<size_t>(std::count_if(frontier.begin(), frontier.end(), [&](auto& run) {
                            return run.first >= low && run.first <= high;
                          })));
  const int amounts = std::max(1, static_cast<int>(shortest) - 1);
  const auto cell = fmt::format("{} {:.6g} to {:.6g}", quantity, low, high);
  std::vector<PairedRun> runs;
  for (const auto& variant : order)
    for (const auto& [seed, frontier] : frontiers[variant]) {
      double loss = 0;
      for (int k = 0; k < amounts; ++k)
        loss += loss_at(frontier, low * std::pow(high / low, (k + 1.0) / (amounts + 1.0))) / amounts;
      runs.push_back({.variant = variant,
                      .key = fmt::format("{} {}", cell, seed),
                      .done = true,
                      .loss = loss,
                      .params = 0,
                      .cell = cell});
    }
  return runs;
}

std::vector<PairedRun> with_shuffled_labels(std::vector<PairedRun> runs, uint64_t seed) {
  std::map<std::string, std::vector<size_t>> by_key;
  for (size_t i = 0; i < runs.size(); ++i)
    if (!runs[i].key.empty()) by_key[runs[i].key].push_back(i);
  std::mt19937_64 random(seed);
  for (auto& [key, places] : by_key)
    for (size_t i = places.size(); i > 1; --i) {
      // The same on every standard library, unlike std::shuffle.
      const auto j = static_cast<size_t>((static_cast<unsigned __int128>(random()) * i) >> 64);
      auto &one = runs[places[i - 1]], &other = runs[places[j]];
      std::swap(one.loss, other.loss);
      std::swap(one.done, other.done);
      std::swap(one.params, other.params);
    }
  return runs;
}

double share_shown_when_shuffled(const std::vector<PairedRun>& runs, uint64_t seed, int permutations) {
  int shown = 0;
  for (int k = 0; k < permutations; ++k) {
    const auto pairs = compare_all(with_shuffled_labels(runs, seed + static_cast<uint64_t>(k)));
    shown += std::any_of(pairs.begin(), pairs.end(), [](const PairComparison& pair) { return pair.shown(); });
  }
  return static_cast<double>(shown) / permutations;
}

}  // namespace attnscale

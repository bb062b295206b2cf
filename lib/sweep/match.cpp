#include "sweep/match.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "core/json_paths.h"
#include "core/options.h"
#include "model/attention_choice.h"
#include "train/run_config.h"

namespace attnscale {
namespace {

// Beyond this many multiples no transformer is meant.
constexpr int64_t most_multiples = 1 << 20;

/// Nothing for the decode state of a model with a layer that keeps none.
std::optional<double> size_of(const RunConfig& run, const std::string& quantity) {
  const auto cost = cost_of(run);
  if (quantity == "parameters") return static_cast<double>(cost.parameters.total);
  if (quantity == "non_embedding_parameters") return static_cast<double>(cost.parameters.non_embedding);
  if (quantity == "flops") return cost.flops_per_token.executed;
  if (!cost.state_bytes) return std::nullopt;
  return static_cast<double>(*cost.state_bytes);
}

std::string without_seed(Json config) {
  if (config.contains("train") && config["train"].is_object()) config["train"].erase("seed");
  return config.dump();
}

/// The size of what a config resolves to; nothing, and the reasons, if it does not.
std::optional<double> resolved_size(const Json& config, const std::string& quantity, std::vector<Problem>& reasons,
                                    Json* resolved = nullptr) {
  const auto run = RunConfig::from_json(config, reasons);
  if (!reasons.empty()) return std::nullopt;
  if (resolved) *resolved = run.to_json();
  const auto size = size_of(run, quantity);
  if (!size)
    reasons.push_back({"match.quantity",
                       fmt::format("{} keeps no decode state, so that there are no state_bytes to make equal; match "
                                   "another quantity or take an incremental variant",
                                   label_of(run.attention))});
  return size;
}

}  // namespace

std::optional<double> Matcher::reference_size(const Json& config, std::vector<Problem>& problems) {
  Json reference = config;
  for (const auto& [path, value] : match_.as.items()) set_path(reference, path, value);
  const auto key = without_seed(reference);
  if (const auto known = references_.find(key); known != references_.end()) return known->second;
  std::vector<Problem> reasons;
  const auto size = resolved_size(reference, match_.quantity, reasons);
  if (!size) {
    for (const auto& [path, message] : reasons)
      problems.push_back({"match.as", fmt::format("with it the reference's {}: {}", path, message)});
    return std::nullopt;
  }
  return references_[key] = *size;
}

std::optional<Matched> Matcher::solve(Json& config, std::vector<Problem>& problems) {
  const auto key = without_seed(config);
  auto known = solutions_.find(key);
  if (known == solutions_.end()) known = solutions_.emplace(key, search(config, problems)).first;
  const auto& solution = known->second;
  if (!solution) return std::nullopt;
  if (solution->number) set_path(config, match_.by, *solution->number);
  return solution->matched;
}

std::optional<Matcher::Solution> Matcher::search(Json config, std::vector<Problem>& problems) {
  std::vector<Problem> own;
  const auto as_it_is = resolved_size(config, match_.quantity, own);
  if (!as_it_is) {
    // What is wrong with the config itself is said where the plan resolves it.
    for (const auto& problem : own)
      if (problem.path == "match.quantity") problems.push_back({"match", problem.message});
    return std::nullopt;
  }
  const auto target = reference_size(config, problems);
  if (!target) return std::nullopt;
  if (*as_it_is == *target) return Solution{std::nullopt, {match_.quantity, *target, *target, {match_.by}}};

  const auto refuse = [&](std::string message) {
    problems.push_back({"match", std::move(message)});
    return std::nullopt;
  };
  std::vector<Problem> reasons;
  Json first, here;
  std::set<std::string> followers;
  const auto size_at = [&](int64_t multiples) -> std::optional<double> {
    set_path(config, match_.by, multiples * match_.multiple_of);
    const auto size = resolved_size(config, match_.quantity, reasons, &here);
    if (size && first.is_null()) first = here;
    if (size) {
      const auto moved = differing_leaves(first, here);
      for (const auto& [path, unused] : moved.items()) followers.insert(path);
    }
    return size;
  };
  // The reasons of the number that did not resolve.
  const auto unresolved = [&](int64_t multiples) {
    return refuse(fmt::format("{} = {} cannot be: {} {}", match_.by, multiples * match_.multiple_of,
                              reasons.front().path, reasons.front().message));
  };

  int64_t low = 1, high = 1;
  auto at_low = size_at(low), at_high = at_low;
  if (!at_low) return unresolved(low);
  while (*at_high < *target) {
    if (high >= most_multiples)
      return refuse(fmt::format("{} of {:.6g} is not reached with {} up to {} ({:.6g} there); does it depend on it?",
                                match_.quantity, *target, match_.by, high * match_.multiple_of, *at_high));
    low = high;
    at_low = at_high;
    high *= 2;
    at_high = size_at(high);
    if (!at_high) return unresolved(high);
  }
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    const auto at_middle = size_at(middle);
    if (!at_middle) return unresolved(middle);
    (*at_middle < *target ? low : high) = middle;
    (*at_middle < *target ? at_low : at_high) = at_middle;
  }
  const bool lower = std::abs(*at_low - *target) <= std::abs(*at_high - *target);
  const int64_t best = lower ? low : high;
  Matched matched{match_.quantity, *target, lower ? *at_low : *at_high, {match_.by}};
  followers.erase(match_.by);
  matched.moved.insert(matched.moved.end(), followers.begin(), followers.end());
  if (std::abs(matched.residual()) > match_.tolerance)
    return refuse(
        fmt::format("the nearest {} to {:.6g} is {:.6g} ({:+.2f} %), at {} = {}, expected within {:.2g} %; "
                    "solve for another number (\"by\"), or widen \"tolerance\"",
                    match_.quantity, *target, matched.reached, 100 * matched.residual(), match_.by,
                    best * match_.multiple_of, 100 * match_.tolerance));
  return Solution{best * match_.multiple_of, matched};
}

}  // namespace attnscale

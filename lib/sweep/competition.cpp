#include "sweep/competition.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "core/json_paths.h"
#include "core/nearest.h"
#include "train/ramp.h"

namespace attnscale {
namespace {

/// Each path of `by` must tell some runs apart.
void check_that_they_vary(const std::vector<Json>& configs, const StoppingRule& rule, std::vector<Problem>& problems) {
  for (const auto& path : rule.by) {
    const Json& first = at_path(configs.front(), path);
    const auto differs = [&](const Json& config) { return at_path(config, path) != first; };
    if (std::any_of(configs.begin(), configs.end(), differs)) continue;
    std::vector<std::string> known;
    for (const auto& [name, value] : flatten(configs.front())) known.push_back(name);
    problems.push_back(
        {"stopping.by",
         fmt::format("{}: {}", path,
                     first.is_null() ? "no run has it" + suggestion(path, known)
                                     : "is the same in all runs; expected an option that an axis sets")});
  }
}

/// Runs are compared where they are evaluated anyway, so that one that goes on is the run that it were without a rule.
void check_steps(const Plan& plan, const StoppingRule& rule, std::vector<Problem>& problems) {
  std::set<std::string> said;
  const auto say = [&](const char* path, std::string message) {
    if (said.insert(path).second) problems.push_back({path, std::move(message)});
  };
  bool any_look = false;
  for (const auto& run : plan.runs) {
    const auto every = run.train.eval_every;
    if (rule.first % every != 0)
      say("stopping.first",
          fmt::format("received {}, expected a multiple of train.eval_every, which is {}", rule.first, every));
    if (rule.every && *rule.every % every != 0)
      say("stopping.every",
          fmt::format("received {}, expected a multiple of train.eval_every, which is {}", *rule.every, every));
    any_look = any_look || !rule.looks(run.train.steps).empty();
  }
  if (!any_look)
    say("stopping.first", fmt::format("received {}, but no run has more than {} steps; expected a step below its end",
                                      rule.first, plan.runs.front().train.steps));
}

}  // namespace

void let_compete(Plan& plan, const StoppingRule& rule, std::vector<Problem>& problems) {
  std::vector<Json> configs;
  for (const auto& run : plan.runs) configs.push_back(run.config().to_json());
  check_that_they_vary(configs, rule, problems);
  check_steps(plan, rule, problems);
  for (size_t i = 0; i < configs.size(); ++i) plan.runs[i].competes_in = stopping_group(rule, std::move(configs[i]));
  plan.stopping = rule;
}

LeastWork least_work(const Plan& plan) {
  struct Member {
    double tokens = 0, flops = 0, first_tokens = 0, first_flops = 0;
  };
  std::map<std::string, std::vector<Member>> groups;
  LeastWork least;
  double all_flops = 0;
  for (const auto& run : plan.runs) {
    const auto looks = plan.stopping ? plan.stopping->looks(run.train.steps) : std::vector<int64_t>();
    const auto first = looks.empty() ? run.work : work_of(run.config(), run.cost, looks.front());
    groups[run.competes_in].push_back(
        {run.tokens(), run.training_flops(), static_cast<double>(first.tokens), first.flops.executed});
    all_flops += run.training_flops();
  }
  for (auto& [group, members] : groups) {
    least.largest_group = std::max(least.largest_group, members.size());
    std::sort(members.begin(), members.end(), [](const Member& a, const Member& b) { return a.flops < b.flops; });
    const size_t go_on = plan.stopping ? least_that_go_on(*plan.stopping, members.size()) : members.size();
    for (size_t i = 0; i < members.size(); ++i) {
      least.tokens += i < go_on ? members[i].tokens : members[i].first_tokens;
      least.flops += i < go_on ? members[i].flops : members[i].first_flops;
    }
  }
  least.groups = groups.size();
  least.share = all_flops > 0 ? least.flops / all_flops : 1;
  return least;
}

}  // namespace attnscale

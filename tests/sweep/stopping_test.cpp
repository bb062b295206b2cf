#include "sweep/stopping.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "scratch_folder.h"
#include "sweep/plan.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<Json> evaluations_of(const std::vector<double>& losses, int64_t every) {
  std::vector<Json> rows;
  for (size_t i = 0; i < losses.size(); ++i)
    rows.push_back({{"step", static_cast<int64_t>(i + 1) * every}, {"loss", losses[i]}});
  return rows;
}

/// A learning curve of 12 evaluations that falls to a level of its own, at a pace of its own, with noise.
std::vector<double> planted_curve(std::mt19937_64& rng) {
  std::uniform_real_distribution<double> any(0, 1);
  const double level = 1 + any(rng), pace = 0.2 + any(rng);
  std::vector<double> losses;
  for (int i = 1; i <= 12; ++i) losses.push_back(level + 3 * std::pow(i, -pace) + 0.05 * any(rng));
  return losses;
}

/// Whether the newcomer of a rung goes on: written once more from the rule's words, over plain numbers.
bool naive_asha(const std::vector<double>& came_before, double loss, int64_t reduction) {
  std::vector<double> all = came_before;
  all.push_back(loss);
  if (static_cast<int64_t>(all.size()) < reduction) return true;
  std::stable_sort(all.begin(), all.end());
  const auto go_on = all.size() / static_cast<size_t>(reduction);
  return loss <= all[go_on - 1] && std::count(came_before.begin(), came_before.end(), loss) == 0;
}

double naive_median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  const double high = values[values.size() / 2];
  if (values.size() % 2 == 1) return high;
  return (high + *std::max_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2))) /
         2;
}

/// Runs that advance one evaluation at a time, whichever is next by chance, as workers would have it.
struct Race {
  StoppingRule rule;
  std::vector<std::vector<double>> curves;
  std::vector<size_t> at = std::vector<size_t>(curves.size(), 0);
  std::vector<bool> running = std::vector<bool>(curves.size(), true);
  std::vector<Json> decisions = {};

  /// Advances one run and asks the rule where it looks. @return the decision, or null
  Json advance(size_t run) {
    const int64_t every = 10, steps = 120;
    const std::vector<double> seen(curves[run].begin(), curves[run].begin() + static_cast<std::ptrdiff_t>(++at[run]));
    const auto step = static_cast<int64_t>(at[run]) * every;
    running[run] = step < steps;
    if (!rule.records_at(step, steps)) return nullptr;
    auto decision = decide_stopping(rule, decisions, std::to_string(run), step, steps, evaluations_of(seen, every));
    decisions.push_back(decision);
    if (!decision["goes_on"].get<bool>()) running[run] = false;
    return decision;
  }

  size_t next(std::mt19937_64& rng) const {
    std::vector<size_t> candidates;
    for (size_t run = 0; run < curves.size(); ++run)
      if (running[run]) candidates.push_back(run);
    return candidates.empty() ? curves.size() : candidates[rng() % candidates.size()];
  }
};

Race race_of(const StoppingRule& rule, size_t runs, std::mt19937_64& rng) {
  std::vector<std::vector<double>> curves;
  for (size_t i = 0; i < runs; ++i) curves.push_back(planted_curve(rng));
  return {rule, curves};
}

std::vector<Problem> problems_of(const char* text) {
  std::vector<Problem> problems;
  StoppingRule::from_json(Json::parse(text), problems);
  return problems;
}

/// The error of a plan with this rule, over six rates and two seeds.
std::string error_with(const std::string& rule) {
  const ScratchFolder folder;
  write_file_atomically(folder / "spec.json",
                        R"({"base": {"train": {"steps": 100, "eval_every": 10}},
                            "grid": {"train.learning_rate": [1, 2, 3, 4, 5, 6]}, "seeds": 2, "stopping": )" +
                            rule + "}");
  try {
    make_plan(read_spec(folder / "spec.json", {}));
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("stopping: rungs of asha are the first times powers of the reduction, below the end") {
  StoppingRule rule{.first = 10};
  CHECK(rule.looks(100) == std::vector<int64_t>{10, 30, 90});
  CHECK(rule.looks(90) == std::vector<int64_t>{10, 30});
  CHECK(rule.looks(10).empty());
  rule.reduction = 1 << 20;
  CHECK(rule.looks(int64_t{1} << 62).size() == 3);  // 10, 10 * 2^20, 10 * 2^40: the next would overflow
  CHECK(StoppingRule{.rule = "median", .first = 20, .every = 30}.looks(100) == std::vector<int64_t>{20, 50, 80});
  CHECK_FALSE(rule.records_at(100, 100));
  CHECK(StoppingRule{.rule = "median", .first = 20, .every = 30}.records_at(100, 100));
}

TEST_CASE("stopping: asha by hand, five runs that come to the first rung one after another") {
  // Reduction 2: of n runs the best floor(n / 2) go on. Losses in the order of coming: 5 (alone: goes on), 4 (1 of 2,
  // the best), 4.5 (2 of 3, one may go on), 3 (1 of 4), 3.5 (2 of 5, two may).
  const StoppingRule rule{.first = 10, .reduction = 2};
  std::vector<Json> decisions;
  const std::vector<double> losses = {5, 4, 4.5, 3, 3.5};
  const std::vector<int> ranks = {1, 1, 2, 1, 2};
  const std::vector<bool> go_on = {true, true, false, true, true};
  for (size_t i = 0; i < losses.size(); ++i) {
    const auto decision = decide_stopping(rule, decisions, std::to_string(i), 10, 100, evaluations_of({losses[i]}, 10));
    CHECK(decision["rank"] == ranks[i]);
    CHECK(decision["of"] == i + 1);
    CHECK(decision["goes_on"] == static_cast<bool>(go_on[i]));
    decisions.push_back(decision);
  }
  CHECK(reason_of(rule, decisions[2]) == "rank 2 of 3 at step 10, where the best 1 go on");
  // Who comes to the next rung is compared with those that came there only.
  CHECK(decide_stopping(rule, decisions, "0", 20, 100, evaluations_of({5, 4.9}, 10))["of"] == 1);
}

TEST_CASE("stopping: asha on planted curves decides as the rule's words, in any order of coming") {
  std::mt19937_64 rng(1);
  int stopped = 0, went_on = 0;
  for (int trial = 0; trial < 200; ++trial) {
    auto race = race_of({.first = 10, .reduction = 2 + trial % 3}, 1 + trial % 9, rng);
    std::map<int64_t, std::vector<double>> rungs;
    for (size_t run; (run = race.next(rng)) < race.curves.size();) {
      const auto decision = race.advance(run);
      if (decision.is_null()) continue;
      const auto step = decision["step"].get<int64_t>();
      const double loss = race.curves[run][race.at[run] - 1];
      const bool expected = naive_asha(rungs[step], loss, race.rule.reduction);
      REQUIRE(decision["goes_on"] == expected);
      ++(expected ? went_on : stopped);
      rungs[step].push_back(loss);
    }
  }
  CHECK(stopped > 200);
  CHECK(went_on > 200);
}

TEST_CASE("stopping: the median rule by hand") {
  // Three runs have ended, with mean losses up to step 20 of 3, 4 and 5: the median is 4. A fourth whose best loss by
  // then is 4 goes on, one with 4.1 does not; the mean of the newcomer does not matter.
  const StoppingRule rule{.rule = "median", .first = 20, .every = 10};
  std::vector<Json> decisions;
  const std::vector<std::vector<double>> ended = {{4, 2, 1}, {5, 3, 2}, {6, 4, 3}};
  for (size_t i = 0; i < ended.size(); ++i)
    for (const int64_t step : {20, 30}) {
      const std::vector<double> seen(ended[i].begin(), ended[i].begin() + step / 10);
      decisions.push_back(decide_stopping(rule, decisions, std::to_string(i), step, 30, evaluations_of(seen, 10)));
      CHECK(decisions.back()["goes_on"] == true);  // fewer than three have ended
    }
  const auto with = [&](const std::vector<double>& losses) {
    return decide_stopping(rule, decisions, "new", 20, 30, evaluations_of(losses, 10));
  };
  CHECK(with({9, 4})["goes_on"] == true);
  CHECK(with({9, 4.1})["goes_on"] == false);
  CHECK(with({4, 9})["goes_on"] == true);
  CHECK(with({9, 4.1})["median"] == 4);
  CHECK(reason_of(rule, with({9, 4.1})) == "best loss 4.1000 at step 20, worse than the median 4.0000 of 3 runs");
}

TEST_CASE("stopping: the median rule on planted curves decides as the paper's words, in any order of coming") {
  std::mt19937_64 rng(2);
  int stopped = 0;
  for (int trial = 0; trial < 200; ++trial) {
    StoppingRule rule{.rule = "median", .first = 20, .every = 20, .least = 1 + trial % 3};
    auto race = race_of(rule, 1 + trial % 9, rng);
    std::set<size_t> ended;
    for (size_t run; (run = race.next(rng)) < race.curves.size();) {
      std::vector<double> means;
      const size_t evaluations = race.at[run] + 1;
      for (const size_t other : ended) {
        double sum = 0;
        for (size_t i = 0; i < evaluations; ++i) sum += race.curves[other][i];
        if (race.at[other] >= evaluations) means.push_back(sum / static_cast<double>(evaluations));
      }
      const auto decision = race.advance(run);
      if (!race.running[run]) ended.insert(run);
      if (decision.is_null() || decision.contains("ended")) continue;
      const double best = *std::min_element(race.curves[run].begin(),
                                            race.curves[run].begin() + static_cast<std::ptrdiff_t>(evaluations));
      const bool expected = static_cast<int64_t>(means.size()) < rule.least || best <= naive_median(means);
      REQUIRE(decision["goes_on"] == expected);
      if (!expected) ++stopped;
    }
  }
  CHECK(stopped > 50);
}

TEST_CASE("stopping: no order of coming lets fewer runs go on than the plan counts at least") {
  for (const auto& rule : {StoppingRule{.first = 10, .reduction = 2}, StoppingRule{.first = 10, .reduction = 4}})
    for (size_t count = 1; count <= 7; ++count) {
      std::vector<double> losses(count);
      for (size_t i = 0; i < count; ++i) losses[i] = static_cast<double>(i);
      size_t fewest = count;
      do {
        std::vector<Json> decisions;
        size_t going_on = 0;
        for (const double loss : losses) {
          decisions.push_back(decide_stopping(rule, decisions, "", 10, 20, evaluations_of({loss}, 10)));
          going_on += decisions.back()["goes_on"].get<bool>();
        }
        fewest = std::min(fewest, going_on);
      } while (std::next_permutation(losses.begin(), losses.end()));
      CHECK(fewest == least_that_go_on(rule, count));
    }
}

TEST_CASE("stopping: what is wrong with a rule is said at its place") {
  const std::pair<const char*, const char*> cases[] = {
      {R"(3)", "expected an object such as"},
      {R"({"first": 10})", "\"rule\" is missing"},
      {R"({"rule": "asha"})", "\"first\" is missing"},
      {R"({"rule": "ahsa", "first": 1})", "asha"},
      {R"({"rule": "asha", "first": 0})", "expected a whole number"},
      {R"({"rule": "asha", "first": 1, "reduction": 1})", "expected a whole number"},
      {R"({"rule": "median", "first": 1, "reduction": 3})", "rule asha"},
      {R"({"rule": "asha", "first": 1, "least": 3})", "rule median"},
      {R"({"rule": "asha", "first": 1, "frist": 3})", "first"},
      {R"({"rule": "asha", "first": 1, "by": []})", "expected a list of config paths"},
      {R"({"rule": "asha", "first": 1, "by": ["train.seed"]})", "different seeds do not compete"},
      {R"({"rule": "asha", "first": 1, "by": ["train.steps"]})", "other lengths"},
      {R"({"rule": "asha", "first": 1, "by": ["data.context"]})", "other data"},
      {R"({"rule": "asha", "first": 1, "by": ["learning_rate"]})", "expected a config path"}};
  for (const auto& [text, words] : cases) {
    INFO(text);
    const auto problems = problems_of(text);
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].path.starts_with("stopping"));
    CHECK_THAT(problems[0].message, ContainsSubstring(words));
  }
}

TEST_CASE("stopping: a rule that cannot be kept in this plan is refused") {
  CHECK_THAT(error_with(R"({"rule": "asha", "first": 15})"),
             ContainsSubstring("stopping.first: received 15, expected a multiple of train.eval_every, which is 10"));
  CHECK_THAT(error_with(R"({"rule": "median", "first": 10, "every": 5})"), ContainsSubstring("stopping.every"));
  CHECK_THAT(error_with(R"({"rule": "asha", "first": 100})"), ContainsSubstring("no run has more than 100 steps"));
  CHECK_THAT(error_with(R"({"rule": "asha", "first": 10, "by": ["model.depth"]})"),
             ContainsSubstring("same in all runs"));
  CHECK_THAT(error_with(R"({"rule": "asha", "first": 10, "by": ["train.learning_rat"]})"),
             ContainsSubstring("did you mean \"train.learning_rate\""));
  CHECK(error_with(R"({"rule": "asha", "first": 10})") == "no error");
}

TEST_CASE("stopping: runs compete that agree in everything but the named paths, and the plan counts what is trained") {
  const ScratchFolder folder;
  write_file_atomically(folder / "spec.json", R"({
    "base": {"train": {"steps": 100, "eval_every": 10}}, "grid": {"model.depth": [1, 2],
    "train.learning_rate": [1, 2, 3, 4, 5]}, "seeds": 2, "stopping": {"rule": "asha", "first": 10}})");
  const auto plan = make_plan(read_spec(folder / "spec.json", {}));
  std::map<std::string, std::vector<const PlannedRun*>> groups;
  for (const auto& run : plan.runs) groups[run.competes_in].push_back(&run);
  CHECK(groups.size() == 4);  // depths x seeds
  for (const auto& [name, runs] : groups) {
    CHECK(runs.size() == 5);
    for (const auto* run : runs) {
      CHECK(run->config().train.seed == runs[0]->config().train.seed);
      CHECK(run->config().model.depth == runs[0]->config().model.depth);
    }
  }
  const auto least = least_work(plan);
  CHECK(least.groups == 4);
  CHECK(least.largest_group == 5);
  // Of each group two runs are trained to the end and three to a tenth of it.
  CHECK(10 * least.tokens == 4 * (2 * 10 + 3) * plan.runs[0].tokens());
  const auto text = plan_text(plan, 200);
  CHECK_THAT(text, ContainsSubstring("early stopping (asha) after 10, 30, 90 steps, in 4 groups of at most 5 runs that "
                                     "differ in learning_rate: the sums above count every run to its end, at most"));
  CHECK(plan.to_json()["stopping"] == plan.stopping->to_json());
  CHECK(plan.to_json()["least"]["tokens"] == least.tokens);
}

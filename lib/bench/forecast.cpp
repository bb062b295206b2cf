#include "bench/forecast.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <numeric>
#include <queue>
#include <thread>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "bench/training.h"
#include "core/files.h"
#include "model/attention_choice.h"

namespace attnscale {
namespace {

double step_flops(const PlannedRun& run) { return run.training_flops() / static_cast<double>(run.train.steps); }

/// FLOPs of one step of a config.
double step_flops(const RunConfig& config) {
  const auto cost = cost_of(config);
  return cost.flops_per_token.executed * static_cast<double>(config.train.batch_size * config.data.context);
}

/// The config with as much of its step as a budget of FLOPs allows, and at least one window of 16 tokens through one
/// layer: windows go first, since their number changes the time per FLOP least.
RunConfig shortened(RunConfig config, double budget) {
  while (step_flops(config) > budget) {
    auto next = config;
    if (config.train.batch_size > 1) next.train.batch_size = (config.train.batch_size + 1) / 2;
    else if (config.data.context > 256) next.data.context = (config.data.context + 1) / 2;
    else if (config.model.depth > 1) next.model.depth = (config.model.depth + 1) / 2;
    else if (config.data.context > 16) next.data.context = (config.data.context + 1) / 2;
    else break;
    next.train.accumulate = std::gcd(next.train.batch_size, next.train.accumulate);
    // A variant may want its context just so.
    if (!model_problems(next.model, next.attention, next.data.context).empty()) break;
    config = std::move(next);
  }
  return config;
}

struct StepTime {
  double seconds = 0;
  double processor_seconds = 0;  ///< of this process, per run side by side
  bool whole = true;             ///< false: a part was measured
};

/// Mean seconds of a step of this config while others like it run beside: a sum over many steps is asked for, to which
/// the seldom long ones belong.
StepTime mean_step(const RunConfig& config, int side_by_side, int warmup, int repetitions, double most_seconds = 0) {
  std::atomic<bool> ended = false;
  std::vector<std::jthread> others;
  for (int i = 1; i < side_by_side; ++i)
    others.emplace_back([&] {
      try {
        train_until(config, ended);
      } catch (const std::exception&) {  // what is measured has it too, and says so
      }
    });
  const struct Ending {
    std::atomic<bool>& flag;
    ~Ending() { flag = true; }
  } ending{ended};  // before the threads are waited for, also when a step throws
  const double wall = now_ms(Clock::wall), processor = now_ms(Clock::processor);
  const auto timing = time_training_steps(config, 1, warmup, repetitions, most_seconds);
  const double passed = now_ms(Clock::wall) - wall, spent = now_ms(Clock::processor) - processor;
  const double mean = std::accumulate(timing.milliseconds.begin(), timing.milliseconds.end(), 0.0) /
                      static_cast<double>(timing.milliseconds.size()) / 1000;
  const bool on_processor = config.train.device == "cpu";
  const double share = on_processor ? spent / side_by_side / std::max(passed, 1e-3) : 1;
  return {.seconds = mean, .processor_seconds = mean * std::clamp(share, 1e-3, 1.0)};
}

/// Of one training step. A step of much work is measured in two parts: a first one of little work tells the machine's
/// speed, the second takes at most about `longest_step`. Short steps are repeated for `measured_seconds`.
StepTime step_time(const PlannedRun& run, int side_by_side, double longest_step, double measured_seconds) {
  constexpr double first_flops = 3e8;
  constexpr int most_repetitions = 200;
  const auto config = run.config();
  const double all = step_flops(config);
  auto part = config;
  double expected = 0;
  if (all > first_flops) {
    const auto taste = shortened(config, first_flops);
    const double flops_per_second = step_flops(taste) / std::max(mean_step(taste, side_by_side, 1, 1).seconds, 1e-6);
    part = shortened(config, std::max(first_flops, flops_per_second * longest_step));
    expected = step_flops(part) / flops_per_second;
  }
  auto time = mean_step(part, side_by_side, 2 * expected <= longest_step ? 2 : 0, most_repetitions, measured_seconds);
  // The run's mean step, of which a ramp makes less than its last.
  const double share = step_flops(run) / step_flops(part);
  return {time.seconds * share, time.processor_seconds * share, step_flops(part) == all};
}

/// The words and switches of settings, nested ones included; no numbers.
Json without_numbers(const Json& settings) {
  Json kept = Json::object();
  for (const auto& [key, value] : settings.items()) {
    if (value.is_object()) kept[key] = without_numbers(value);
    else if (value.is_string() || value.is_boolean() || value.is_array()) kept[key] = value;
  }
  return kept;
}

struct Kind {
  double flops = 0;
  const PlannedRun *cheapest = nullptr, *dearest = nullptr;
};

/// Seconds until the disk has a small file, in the nearest folder that is there.
double sync_seconds(std::filesystem::path folder) {
  constexpr int tries = 3;
  folder = std::filesystem::absolute(folder);
  while (!std::filesystem::is_directory(folder) && folder != folder.parent_path()) folder = folder.parent_path();
  const auto file = folder / fmt::format(".attnscale-{}", ::getpid());
  const double begin = now_ms(Clock::wall);
  try {
    for (int i = 0; i < tries; ++i) write_file_atomically(file, "how long does this take?");
  } catch (const IoError&) {  // the sweep will say so
  }
  const double seconds = (now_ms(Clock::wall) - begin) / 1000;
  std::error_code none;
  std::filesystem::remove(file, none);
  return seconds / tries / 2;  // the file, and its folder
}

/// This program's way to its first line, with the loading of its libraries.
double start_seconds() {
  const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
  const double begin = now_ms(Clock::wall);
  const pid_t child = ::fork();
  if (child == 0) {
    // Only async-signal-safe calls until exec.
    const int nothing = ::open("/dev/null", O_WRONLY);
    ::dup2(nothing, STDOUT_FILENO);
    ::dup2(nothing, STDERR_FILENO);
    ::execl(program.c_str(), program.c_str(), "--version", static_cast<char*>(nullptr));
    ::_exit(127);
  }
  if (child > 0) ::waitpid(child, nullptr, 0);
  return (now_ms(Clock::wall) - begin) / 1000;
}

/// Seconds of a run's checkpoints and of what surrounds it. Of each checkpoint the weights and two moments are hashed,
/// written, read back and hashed again. The counts of syncs are those that a trace of a sweep shows.
double saving_seconds(const PlannedRun& run, double sync) {
  constexpr double syncs_of_run = 18, syncs_of_checkpoint = 12, bytes_per_second = 3e8;
  const auto& train = run.train;
  const double checkpoints =
      train.checkpoint_every == 0
          ? 0
          : std::ceil(static_cast<double>(train.steps) / static_cast<double>(train.checkpoint_every));
  const double bytes = 12.0 * static_cast<double>(run.cost.parameters.total);
  return syncs_of_run * sync + checkpoints * (syncs_of_checkpoint * sync + bytes / bytes_per_second);
}

/// Target tokens of all evaluations, in training steps of equal cost: a forward pass is a third of a step.
double evaluation_steps(const PlannedRun& run) {
  const auto& train = run.train;
  const double evaluations = std::ceil(static_cast<double>(train.steps) / static_cast<double>(train.eval_every));
  return evaluations * static_cast<double>(train.eval_tokens) / 3 / (run.tokens() / static_cast<double>(train.steps));
}

}  // namespace

double StepCosts::seconds(double flops) const {
  if (flops > high_flops) return high_seconds * flops / high_flops;
  const double share = high_flops > low_flops ? (flops - low_flops) / (high_flops - low_flops) : 0;
  return low_seconds + share * (high_seconds - low_seconds);
}

std::string kind_of(const PlannedRun& run) {
  return canonical(without_numbers(run.settings)) + (run.groups.empty() ? "" : run.groups.front());
}

double MeasuredSteps::seconds(const PlannedRun& run) const {
  const double flops = step_flops(run);
  if (const auto kind = kinds.find(kind_of(run)); kind != kinds.end()) return kind->second.seconds(flops);
  double sum = 0;
  for (const auto& [name, costs] : kinds) sum += costs.seconds(flops);
  return sum / static_cast<double>(kinds.size());
}

bool MeasuredSteps::whole_steps() const {
  return std::ranges::all_of(kinds, [](const auto& kind) { return kind.second.whole_steps; });
}

MeasuredSteps measure_steps(const Plan& plan, int side_by_side) {
  constexpr size_t most_kinds = 6;
  constexpr double longest_in_all = 3, measured_in_all = 1;  // seconds
  std::map<std::string, Kind> kinds;
  for (const auto& run : plan.runs) {
    auto& kind = kinds[kind_of(run)];
    kind.flops += run.training_flops();
    if (!kind.cheapest || step_flops(run) < step_flops(*kind.cheapest)) kind.cheapest = &run;
    if (!kind.dearest || step_flops(run) > step_flops(*kind.dearest)) kind.dearest = &run;
  }
  std::vector<std::pair<std::string, Kind>> order(kinds.begin(), kinds.end());
  std::ranges::stable_sort(order, [](const auto& a, const auto& b) { return a.second.flops > b.second.flops; });
  MeasuredSteps measured{.kinds = {}, .all_kinds = order.size() <= most_kinds};
  if (!measured.all_kinds) order.resize(most_kinds);
  const auto beside = std::min({side_by_side, static_cast<int>(plan.runs.size()),
                                static_cast<int>(std::max(1U, std::thread::hardware_concurrency()))});
  const double share = 0.5 / static_cast<double>(order.size());
  const double longest = std::min(0.5, longest_in_all * share), each = std::min(0.25, measured_in_all * share);
  double wall = 0, processor = 0;
  for (const auto& [name, kind] : order) {
    StepCosts costs{.low_flops = step_flops(*kind.cheapest), .high_flops = step_flops(*kind.dearest)};
    const auto low = step_time(*kind.cheapest, beside, longest, each);
    const auto high = costs.high_flops > costs.low_flops ? step_time(*kind.dearest, beside, longest, each) : low;
    costs.low_seconds = low.seconds;
    costs.high_seconds = std::max(low.seconds, high.seconds);
    costs.whole_steps = low.whole && high.whole;
    measured.kinds[name] = costs;
    wall += low.seconds / low.processor_seconds + high.seconds / high.processor_seconds;
    processor += 2;
  }
  measured.contention = std::max(1.0, wall / processor);
  return measured;
}

FixedCosts measure_fixed_costs(const std::filesystem::path& folder) {
  return {.start_seconds = start_seconds(), .sync_seconds = sync_seconds(folder)};
}

double steps_with_evaluations(const PlannedRun& run) {
  return static_cast<double>(run.train.steps) + evaluation_steps(run);
}

Forecast forecast_of(const Plan& plan, int jobs, const MeasuredSteps& steps, const FixedCosts& fixed) {
  // The sweep's own start and its workers', and at the end tables, fits and figures: five times the start's work.
  constexpr double starts = 7, at_rest = 1.35, contention_power = 0.7;
  std::priority_queue<double, std::vector<double>, std::greater<>> free_at;  // workers
  for (int job = 0; job < std::max(1, jobs); ++job) free_at.push(0);
  double wall = 0;
  for (const auto& run : plan.runs) {
    const double end =
        free_at.top() + steps.seconds(run) * steps_with_evaluations(run) + saving_seconds(run, fixed.sync_seconds);
    free_at.pop();
    free_at.push(end);
    wall = std::max(wall, end);
  }
  wall += starts * fixed.start_seconds;
  double factor = at_rest * std::pow(steps.contention, contention_power);
  if (!steps.all_kinds) factor = std::max(factor, 2.0);
  if (!steps.whole_steps()) factor = std::max(factor, 3.0);
  return {.seconds = wall,
          .low = wall / factor * least_work(plan).share,  // runs may be stopped early
          .high = wall * factor,
          .whole_steps = steps.whole_steps(),
          .contention = steps.contention};
}

Forecast forecast(const Plan& plan, int jobs, const std::filesystem::path& folder) {
  if (plan.runs.empty()) return {};
  return forecast_of(plan, jobs, measure_steps(plan, jobs), measure_fixed_costs(folder));
}

}  // namespace attnscale

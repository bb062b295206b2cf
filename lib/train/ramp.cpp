#include "train/ramp.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/hash.h"

namespace attnscale {
namespace {

/// A size that grows from `first` to `full`.
struct Growth {
  int64_t first, full;
};

Growth windows_of(const TrainOptions& o) {
  return {std::min(o.initial_batch_size.value_or(o.batch_size), o.batch_size), o.batch_size};
}

Growth tokens_of(const TrainOptions& o) {
  return {std::min(o.initial_context.value_or(o.context), o.context), o.context};
}

int64_t at_step(const Growth& growth, int64_t step, int64_t ramp) {
  return step > ramp ? growth.full : growth.first + (step - 1) * (growth.full - growth.first) / ramp;
}

/// The first step after `step` at which the size is another; far away if it stays.
int64_t next_change(const Growth& growth, int64_t step, int64_t ramp) {
  const int64_t difference = growth.full - growth.first;
  if (step > ramp || difference == 0) return std::numeric_limits<int64_t>::max();
  const int64_t grown = at_step(growth, step, ramp) - growth.first;
  // The least s with (s - 1) difference >= (grown + 1) ramp; by then the ramp is over at the latest.
  return std::min(ramp, ((grown + 1) * ramp + difference - 1) / difference) + 1;
}

FlopLedger times(const FlopLedger& ledger, double tokens) {
  return {.six_n = ledger.six_n * tokens,
          .six_n_with_head = ledger.six_n_with_head * tokens,
          .algorithmic = ledger.algorithmic * tokens,
          .executed = ledger.executed * tokens};
}

void add(FlopLedger& sum, const FlopLedger& more) {
  sum.six_n += more.six_n;
  sum.six_n_with_head += more.six_n_with_head;
  sum.algorithmic += more.algorithmic;
  sum.executed += more.executed;
}

}  // namespace

bool has_ramp(const TrainOptions& o) { return o.initial_batch_size || o.initial_context; }

int64_t ramp_steps(const TrainOptions& o) {
  return std::max<int64_t>(1, std::llround(o.ramp_fraction * static_cast<double>(o.steps)));
}

StepSize step_size(const TrainOptions& o, int64_t step) {
  if (!has_ramp(o)) return {.windows = o.batch_size, .tokens = o.context};
  const int64_t windows = at_step(windows_of(o), step, ramp_steps(o));
  return {.windows = windows - windows % o.accumulate, .tokens = at_step(tokens_of(o), step, ramp_steps(o))};
}

std::vector<Stretch> stretches(const TrainOptions& o, int64_t steps) {
  const int64_t ramp = has_ramp(o) ? ramp_steps(o) : 0;
  std::vector<Stretch> result;
  for (int64_t step = 1; step <= steps;) {
    const int64_t next =
        std::min({next_change(windows_of(o), step, ramp), next_change(tokens_of(o), step, ramp), steps + 1});
    const auto size = step_size(o, step);
    if (result.empty() || result.back().size != size) result.push_back({.steps = 0, .size = size});
    result.back().steps += next - step;
    step = next;
  }
  return result;
}

int64_t steps_that_hold(const TrainOptions& o, int64_t tokens) {
  int64_t steps = 0;
  const auto take = [&](int64_t in_a_step, int64_t most) {
    const int64_t wanted = tokens / in_a_step + (tokens % in_a_step > 0 ? 1 : 0), taken = std::min(wanted, most);
    steps += taken;
    tokens = wanted <= most ? 0 : tokens - taken * in_a_step;
  };
  for (const auto& [count, size] : stretches(o, has_ramp(o) ? ramp_steps(o) : 0))
    if (tokens > 0) take(size.windows * size.tokens, count);
  take(o.batch_size * o.context, std::numeric_limits<int64_t>::max());
  return steps;
}

TrainingWork work_of(const RunConfig& config, const ModelCost& cost, int64_t steps) {
  TrainingWork work;
  for (const auto& [count, size] : stretches(config.train, steps)) {
    const int64_t tokens = count * size.windows * size.tokens, context = config.data.context;
    const auto per_token = size.tokens == context ? cost.flops_per_token
                                                  : flops_in_window(config.model, config.attention, context,
                                                                    size.tokens, config.train.activation_checkpointing);
    work.tokens += tokens;
    add(work.flops, times(per_token, static_cast<double>(tokens)));
  }
  return work;
}

StepData step_data(const Source& source, const RunConfig& config, int64_t step) {
  const auto seed = static_cast<uint64_t>(config.train.seed);
  const auto size = step_size(config.train, step);
  StepData data{source.batch(Split::train, stream_seed(seed, "data"), step - 1, size.windows, config.data.context), {}};
  data.questions = training_questions(data.batch, config.model, seed, step);
  if (size.tokens == config.data.context) return data;
  auto& [inputs, targets] = data.questions;
  inputs = inputs.narrow(1, 0, size.tokens);
  targets = targets.narrow(1, 0, size.tokens);
  return data;
}

}  // namespace attnscale

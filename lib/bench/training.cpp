#include "bench/training.h"

#include <algorithm>
#include <optional>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "bench/attention.h"
#include "bench/operators.h"
#include "bench/peer_script.h"
#include "bench/python_peer.h"
#include "core/hash.h"
#include "core/version.h"
#include "model/transformer.h"
#include "tensor/kernels/kernels.h"
#include "train/provenance.h"
#include "train/ramp.h"
#include "train/stepper.h"

namespace attnscale {
namespace {

/// A run whose steps are made one at a time, for a clock.
class Steps {
 public:
  explicit Steps(const RunConfig& config)
      : config_(config),
        source_(config.open_source()),
        seed_(static_cast<uint64_t>(config.train.seed)),
        model_(config.model, config.attention, config.data.context, stream_seed(seed_, "init")),
        stepper_(model_, config.train) {}

  void next() {
    const Batch batch = source_->batch(Split::train, seed_, step_, config_.train.batch_size, config_.data.context);
    ++step_;
    stepper_.step(training_questions(batch, config_.model, seed_, step_), step_);
  }

 private:
  RunConfig config_;
  std::shared_ptr<const Source> source_;
  uint64_t seed_;
  Transformer model_;
  Stepper stepper_;
  int64_t step_ = 0;
};

/// Sizes that the PyTorch script takes; everything else of `model` and `attention` must be as it stands there.
constexpr const char* sizes_of_script[] = {"depth", "model_dim", "num_heads", "bias"};

/// Refuses a config that the script's GPT does not have the same work for.
void check_script_has_twin(const RunConfig& config) {
  const Json whole = config.to_json();
  Json plain = {{"model", Json::object()}, {"attention", {{"variant", "softmax"}}}, {"data", whole["data"]}};
  for (const auto* key : sizes_of_script) plain["model"][key] = whole["model"][key];
  plain["train"] = {{"batch_size", config.train.batch_size}};
  std::vector<Problem> problems;
  const Json twin = RunConfig::from_json(plain, problems).to_json();
  const auto require = [](bool equal, const std::string& path, const Json& value, const Json& expected) {
    if (!equal)
      throw ConfigError(fmt::format("--against python: the PyTorch script has {} {} only, received {}", path,
                                    expected.dump(), value.dump()));
  };
  for (const auto* part : {"model", "attention"}) {
    for (const auto& [key, value] : whole[part].items()) {
      const Json expected = twin[part].contains(key) ? twin[part][key] : Json("nothing");
      require(value == expected, fmt::format("{}.{}", part, key), value, expected);
    }
  }
  require(config.train.schedule != "schedule_free", "train.schedule", config.train.schedule, twin["train"]["schedule"]);
  for (const auto* key : {"optimizer", "clip", "accumulate", "label_smoothing", "z_loss", "ema_decay",
                          "float32_projections", "float32_attention", "float32_feed_forward", "float32_head"}) {
    const Json value = whole["train"].contains(key) ? whole["train"][key] : Json(),
               expected = twin["train"].contains(key) ? twin["train"][key] : Json();
    require(value == expected, fmt::format("train.{}", key), value, expected);
  }
}

/// What the script needs to know.
Json work_of(const RunConfig& config, const TrainingBench& bench) {
  const auto& train = config.train;
  return {{"vocab", *config.model.vocab_size},
          {"context", config.data.context},
          {"depth", config.model.depth},
          {"dim", config.model.model_dim},
          {"heads", config.model.num_heads},
          {"bias", config.model.bias},
          {"batch", train.batch_size},
          {"learning_rate", train.learning_rate},
          {"betas", {train.beta1, *train.beta2}},
          {"epsilon", *train.epsilon},
          {"weight_decay", *train.weight_decay},
          {"clip_norm", train.clip_norm},
          {"threads", bench.threads},
          {"clock", bench.clock},
          {"warmup", bench.warmup}};
}

/// The PyTorch loop in all its modes.
class PythonTraining {
 public:
  PythonTraining(const RunConfig& config, const TrainingBench& bench)
      : peer_(bench.python, peer_script, bench.threads), about_(peer_.ask(work_of(config, bench))) {
    for (const auto& mode : about_["modes"]) modes_.push_back({mode.get<std::string>(), {}});
    if (modes_.empty()) throw ConfigError("--against python: no mode works: " + about_["left_out"].dump());
    const auto params = static_cast<int64_t>(cost_of(config).parameters.total),
               theirs = about_["params"].get<int64_t>();
    if (params != theirs)
      throw ConfigError(fmt::format("--against python: its model has {} parameters, ours {}", theirs, params));
  }

  /// One step in each mode.
  void next() {
    for (auto& mode : modes_) mode.time.milliseconds.push_back(peer_.ask({{"mode", mode.name}})["ms"].get<double>());
  }

  /// @param ours  one step before each of theirs
  Json result(const Timing& ours) {
    Json modes = Json::array();
    for (const auto& mode : modes_) {
      std::vector<double> ratios;
      for (size_t i = 0; i < ours.milliseconds.size(); ++i)
        ratios.push_back(mode.time.milliseconds[i] / ours.milliseconds[i]);
      modes.push_back({{"mode", mode.name},
                       {"step_time_ms", mode.time.to_json()},
                       {"times_slower", median_interval(ratios).to_json()}});
    }
    const auto best = std::min_element(modes_.begin(), modes_.end(),
                                       [](const Mode& a, const Mode& b) { return a.time.median() < b.time.median(); });
    return {{"torch", about_["torch"]},
            {"modes", std::move(modes)},
            {"best", best->name},
            {"left_out", about_["left_out"]},
            {"peak_memory_bytes", peer_.ask({{"end", true}})["peak_memory_bytes"]}};
  }

 private:
  struct Mode {
    std::string name;
    Timing time;
  };
  PythonPeer peer_;
  Json about_;
  std::vector<Mode> modes_;
};

/// What is timed is one size of step.
void refuse_ramps(const TrainOptions& options) {
  if (has_ramp(options))
    throw ConfigError(fmt::format("train.{}: bench train times steps of one size, and these grow; leave it out, and "
                                  "set train.batch_size and data.context to the size that is meant",
                                  options.initial_batch_size ? "initial_batch_size" : "initial_context"));
}

}  // namespace

Timing time_training_steps(const RunConfig& config, int threads, int warmup, int repetitions) {
  at::set_num_threads(threads);
  Steps steps(config);
  return measure([&] { steps.next(); }, warmup, repetitions);
}

Json bench_training(const RunConfig& config, const TrainingBench& bench) {
  refuse_ramps(config.train);
  const auto clock = clock_named(bench.clock);
  if (clock == Clock::processor && bench.threads > 1)
    throw ConfigError(fmt::format(
        "the processor's clock adds up what {} threads spend; take --threads 1, or --clock wall", bench.threads));
  at::set_num_threads(bench.threads);
  std::optional<PythonTraining> python;
  if (!bench.python.empty()) {
    check_script_has_twin(config);
    python.emplace(config, bench);
  }
  Steps steps(config);
  measure([&] { steps.next(); }, bench.warmup, 0);
  Timing timing;
  for (int repetition = 0; repetition < bench.repetitions; ++repetition) {
    timing.milliseconds.push_back(measure([&] { steps.next(); }, 0, 1, clock).milliseconds[0]);
    if (python) python->next();
  }
  const auto cost = cost_of(config);
  const double tokens = static_cast<double>(config.train.batch_size * config.data.context);
  const double flops = cost.flops_per_token.executed * tokens;
  const double gflops = flops / timing.median() * 1e-6;
  const double peak = gemm_gflops(scalar_type_named(config.train.dtype));
  Json result = {{"tokens_per_second", tokens / timing.median() * 1000},
                 {"step_time_ms", timing.median()},
                 {"spread", timing.to_json()},
                 {"threads", bench.threads},
                 {"clock", bench.clock},
                 {"dtype", config.train.dtype},
                 {"model", config.to_json()["model"]},
                 {"attention", config.to_json()["attention"]},
                 {"context", config.data.context},
                 {"batch_size", config.train.batch_size},
                 {"params", cost.parameters.total},
                 {"executed_flops_per_step", flops},
                 {"gflops", gflops},
                 {"gemm_gflops", peak},
                 {"of_gemm_peak", gflops / peak},
                 {"peak_memory_bytes", peak_memory_bytes()},
                 {"kernels", kernels_in_use()},
                 {"version", version},
                 {"commit", build_commit()}};
  if (bench.operators) result["operators"] = operator_times([&] { steps.next(); }, bench.repetitions, clock);
  if (python) result["python"] = python->result(timing);
  return result;
}

}  // namespace attnscale

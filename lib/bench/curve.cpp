#include "bench/curve.h"

#include <cmath>
#include <map>
#include <optional>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "bench/python_training.h"
#include "bench/steps.h"
#include "core/error.h"
#include "core/files.h"
#include "core/scratch_folder.h"
#include "tensor/kernels/kernels.h"
#include "tensor/memory.h"
#include "train/checkpoint.h"
#include "train/provenance.h"
#include "train/safetensors.h"

namespace attnscale {
namespace {

void check_draws_nothing(const RunConfig& config) {
  const auto& model = config.model;
  if (model.dropout > 0 || model.embedding_dropout.value_or(0) > 0 || model.stochastic_depth > 0)
    throw ConfigError(
        "bench curve: dropout and stochastic depth draw other numbers by kernels than without; set model.dropout and "
        "model.stochastic_depth to 0");
}

/// Losses of one side, step by step, as means over windows.
class Losses {
 public:
  explicit Losses(int64_t window) : window_(window) {}

  void add(const std::string& side, int64_t step, double loss) {
    if (!std::isfinite(loss))
      throw ConfigError(fmt::format("bench curve: the loss of {} at step {} is {}", side, step, loss));
    sum_ += loss;
    if (step % window_ != 0) return;
    means.push_back(sum_ / static_cast<double>(window_));
    sum_ = 0;
  }
  std::vector<double> means;

 private:
  int64_t window_;
  double sum_ = 0;
};

}  // namespace

Json bench_curve(const RunConfig& config, const CurveBench& bench) {
  check_draws_nothing(config);
  if (bench.steps % bench.window != 0)
    throw ConfigError(
        fmt::format("bench curve: {} steps are no multiple of a window of {}", bench.steps, bench.window));
  at::set_num_threads(bench.threads);
  const KernelsAsBefore as_before;
  const bool with_kernels = kernels_on();
  auto plain = config;
  plain.train.dtype = "float32";
  Steps run(config), reference(plain);
  std::optional<PythonTraining> python;
  if (!bench.python.empty()) {
    const ScratchFolder folder("weights");
    const auto weights = folder / "model.safetensors";
    write_safetensors(weights, tensors_of(reference.model()));
    python.emplace(
        plain,
        PythonWork{.python = bench.python, .modes = {"eager float32"}, .threads = bench.threads, .weights = weights});
  }
  std::map<std::string, Losses> losses;
  const auto add = [&](const char* side, int64_t step, double loss) {
    losses.try_emplace(side, bench.window).first->second.add(side, step, loss);
  };
  for (int64_t step = 1; step <= bench.steps; ++step) {
    set_kernels(with_kernels);
    const auto made = run.next();
    add("run", step, made.loss);
    set_kernels(false);
    add("float32", step, reference.next().loss);
    if (python) add("python", step, python->train_on("eager float32", run.batch(), made.learning_rate));
  }
  set_kernels(with_kernels);
  Json result = {{"steps", bench.steps},        {"window", bench.window},          {"dtype", config.train.dtype},
                 {"kernels", kernels_in_use()}, {"allocator", allocator_in_use()}, {"threads", bench.threads}};
  if (python) result["torch"] = python->torch();
  const auto& ours = losses.at("run").means;
  for (const auto& [side, of] : losses) {
    result["loss"][side] = of.means;
    result["final"][side] = of.means.back();
    if (side == "run") continue;
    double worst = 0;
    for (size_t i = 0; i < ours.size(); ++i) worst = std::max(worst, std::abs(ours[i] / of.means[i] - 1));
    result["worst"][side] = worst;
    result["last"][side] = ours.back() / of.means.back() - 1;
  }
  return result;
}

}  // namespace attnscale

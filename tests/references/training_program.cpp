// Trains with given weights on given batches, so that an outside implementation can be followed step by step, and
// copies safetensors files. Driven by tests/references/*.py.
//
//   reference_training train CONFIG.json WEIGHTS.safetensors BATCHES.safetensors
//       one line per step on standard output: loss, gradient norm, learning rate
//       WEIGHTS by our parameter names; BATCHES holds `tokens`, int64 [steps, rows, context + 1]
//   reference_training update OPTIONS.json PARAMETERS.safetensors GRADIENTS.safetensors RESULT.safetensors
//       as many updates as GRADIENTS [steps, ..] has of each name: schedule, clipping, optimiser; OPTIONS is a `train`.
//       Weights that are evaluated in place of the parameters follow as average/NAME
//   reference_training rates OPTIONS.json
//       the schedule's rate of each step, a line each
//   reference_training scales OPTIONS.json FLAGS
//       the loss scale of each step and whether it updates the weights, a line each; FLAGS has 1 where gradients overflow
//   reference_training copy FROM.safetensors TO.safetensors

#include <cstring>

#include <fmt/format.h>

#include "train/checkpoint.h"
#include "train/clipping.h"
#include "train/run_config.h"
#include "train/safetensors.h"
#include "train/schedule.h"
#include "train/stepper.h"

using namespace attnscale;

namespace {

void train(const std::filesystem::path& config_file, const std::filesystem::path& weights,
           const std::filesystem::path& batches) {
  const auto document = read_json(config_file);
  std::vector<Problem> problems;
  const auto config = RunConfig::from_json(document.value, problems);
  document.refuse(problems);
  Transformer model(config.model, config.attention, config.data.context, 0);
  Stepper stepper(model, config.train);
  TensorMap parameters;
  for (const auto& item : model.named_parameters()) parameters[item.key()] = item.value();
  const auto stored = read_safetensors(weights);
  check_same_tensors(weights.string(), stored, parameters);
  copy_tensors(stored, parameters);
  const auto tokens = read_safetensors(batches).at("tokens");
  for (int64_t step = 1; step <= config.train.steps; ++step) {
    const auto rows = tokens[step - 1];
    const int64_t context = rows.size(1) - 1;
    const auto result = stepper.step({rows.narrow(1, 0, context), rows.narrow(1, 1, context)}, step);
    fmt::print("{} {} {}\n", result.loss, result.gradient_norm, result.learning_rate);
  }
}

TrainOptions options_in(const std::filesystem::path& file) {
  const auto document = read_json(file);
  std::vector<Problem> problems;
  TrainOptions options;
  read_options(document.value, "", options, problems);
  document.refuse(problems);
  options = resolved(options);
  document.refuse(train_problems(options));
  return options;
}

void update(const std::filesystem::path& options_file, const std::filesystem::path& parameters,
            const std::filesystem::path& gradients, const std::filesystem::path& result) {
  const auto options = options_in(options_file);
  auto weights = read_safetensors(parameters);
  std::vector<std::pair<std::string, Tensor>> named;
  for (auto& [name, tensor] : weights) named.emplace_back(name, tensor.requires_grad_());
  const auto optimizer = make_optimizer(named, options);
  const auto by_step = read_safetensors(gradients);
  for (int64_t step = 1; step <= options.steps; ++step) {
    for (auto& [name, tensor] : named) tensor.mutable_grad() = by_step.at(name)[step - 1].clone();
    clip_gradients(optimizer->slots(), gradient_norm(optimizer->slots()).item<double>(), options);
    optimizer->step(learning_rate_at(step, options));
  }
  for (auto& [name, tensor] : weights) tensor = tensor.detach();
  for (const auto& [name, tensor] : optimizer->averaged_weights()) weights["average/" + name] = tensor;
  write_safetensors(result, weights, {});
}

void rates(const std::filesystem::path& options_file) {
  const auto options = options_in(options_file);
  for (int64_t step = 1; step <= options.steps; ++step) fmt::print("{}\n", learning_rate_at(step, options));
}

void scales(const std::filesystem::path& options_file, const std::string& overflows) {
  LossScale scale(options_in(options_file));
  for (const char flag : overflows) {
    const double value = scale.value();
    if (flag == '0') scale.succeeded();
    else if (!scale.overflowed()) throw ConfigError("an overflow without any scale ends a run");
    fmt::print("{} {}\n", value, flag == '0' ? 1 : 0);
  }
}

void copy(const std::filesystem::path& from, const std::filesystem::path& to) {
  Metadata metadata;
  const auto tensors = read_safetensors(from, &metadata);
  write_safetensors(to, tensors, metadata);
}

}  // namespace

int main(int count, char** arguments) {
  try {
    if (count == 5 && std::strcmp(arguments[1], "train") == 0)
      return train(arguments[2], arguments[3], arguments[4]), 0;
    if (count == 6 && std::strcmp(arguments[1], "update") == 0)
      return update(arguments[2], arguments[3], arguments[4], arguments[5]), 0;
    if (count == 3 && std::strcmp(arguments[1], "rates") == 0) return rates(arguments[2]), 0;
    if (count == 4 && std::strcmp(arguments[1], "scales") == 0) return scales(arguments[2], arguments[3]), 0;
    if (count == 4 && std::strcmp(arguments[1], "copy") == 0) return copy(arguments[2], arguments[3]), 0;
    fmt::print(stderr,
               "usage: reference_training train CONFIG WEIGHTS BATCHES | update OPTIONS PARAMETERS GRADIENTS RESULT | "
               "rates OPTIONS | scales OPTIONS FLAGS | copy FROM TO\n");
    return static_cast<int>(ExitCode::usage);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(ExitCode::bad_input);
  }
}

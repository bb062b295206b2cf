#include "train/optimizer.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.h"
#include "train/optimizers/adafactor.h"
#include "train/optimizers/adam.h"
#include "train/optimizers/lion.h"
#include "train/optimizers/muon.h"
#include "train/optimizers/schedule_free.h"
#include "train/optimizers/sgd.h"

namespace attnscale {
namespace {

/// What a parameter is to the model, which decides on its decay and on Muon.
enum class Role {
  vector,         ///< gains and biases, and single numbers
  embedding,      ///< tables of tokens and positions, an untied head, and a factorised embedding's two maps
  hidden_matrix,  ///< see Slot
  other,          ///< filters of a convolution, learnt vectors, whatever has more dimensions
};

/// @param full_name  an encoder's parameters have the roles of those of a stack without one
Role role_of(const std::string& full_name, const Tensor& parameter) {
  if (parameter.dim() < 2) return Role::vector;
  const std::string encoder = "encoder.";
  const auto name = full_name.starts_with(encoder) ? full_name.substr(encoder.size()) : full_name;
  for (const auto* part : {"embedding.", "position_bias.", "head.", "head_down."})
    if (name.starts_with(part)) return Role::embedding;
  const bool map = parameter.dim() == 2 && name.ends_with(".weight") && !name.ends_with(".convolution.weight");
  return map && name.starts_with("blocks.") ? Role::hidden_matrix : Role::other;
}

bool decayed(Role role, const TrainOptions& options) {
  if (role == Role::vector) return options.decay_vectors;
  return role != Role::embedding || options.decay_embeddings;
}

double rate_factor(Role role, const TrainOptions& options) {
  if (role == Role::vector) return options.vector_rate.value_or(1);
  return role == Role::embedding ? options.embedding_rate.value_or(1) : 1;
}

/// See `make_optimizer`. Of what a variant owns muP does not speak; too small a number for it does no harm.
double epsilon_factor(Role role, double width_multiple) {
  const bool on_the_stream = role == Role::vector || role == Role::embedding;
  return 1 / (on_the_stream ? width_multiple : width_multiple * width_multiple);
}

Slot slot_of(const std::string& name, const Tensor& parameter, const TrainOptions& options, double width_multiple) {
  const auto role = role_of(name, parameter);
  return {.name = name,
          .parameter = parameter,
          .weight_decay = decayed(role, options) ? *options.weight_decay : 0,
          .rate_factor = rate_factor(role, options),
          .epsilon_factor = epsilon_factor(role, width_multiple),
          .hidden_matrix = role == Role::hidden_matrix};
}

template <class Kind>
std::unique_ptr<Optimizer> make_kind(std::vector<Slot> slots, const TrainOptions& options) {
  return std::make_unique<Kind>(std::move(slots), options);
}

struct OptimizerKind {
  std::unique_ptr<Optimizer> (*make)(std::vector<Slot>, const TrainOptions&);
  int64_t state_numbers;
};

const OptimizerKind& kind_of(const TrainOptions& options) {
  static const std::map<std::string, OptimizerKind> kinds = {
      {"adamw", {make_kind<AdamW>, 2}},         {"adam", {make_kind<Adam>, 2}}, {"sgd", {make_kind<Sgd>, 1}},
      {"adafactor", {make_kind<Adafactor>, 0}}, {"lion", {make_kind<Lion>, 1}}, {"muon", {make_kind<Muon>, 2}},
  };
  static const std::map<std::string, OptimizerKind> schedule_free = {{"adamw", {make_kind<ScheduleFree>, 2}},
                                                                     {"sgd", {make_kind<ScheduleFree>, 1}}};
  if (options.schedule == "schedule_free") {
    const auto found = schedule_free.find(options.optimizer);
    if (found == schedule_free.end())
      throw ConfigError(fmt::format("train.schedule: schedule_free knows no {}", options.optimizer));
    return found->second;
  }
  const auto found = kinds.find(options.optimizer);
  if (found == kinds.end()) throw ConfigError(fmt::format("train.optimizer: no optimizer {}", options.optimizer));
  return found->second;
}

}  // namespace

Optimizer::Optimizer(std::vector<Slot> slots) : slots_(std::move(slots)) {
  std::stable_partition(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.parameter.dim() >= 2; });
}

/// By rate.
std::map<double, Optimizer::Slots> Optimizer::with_gradient() {
  std::map<double, Slots> result;
  for (auto& slot : slots_)
    if (slot.parameter.grad().defined()) result[slot.rate_factor].push_back(&slot);
  return result;
}

void Optimizer::step(double learning_rate, double gradient_factor) {
  const torch::NoGradGuard no_gradients;
  if (gradient_factor != 1 && !scales_gradients())
    for (auto& slot : slots_)
      if (slot.parameter.grad().defined()) slot.parameter.mutable_grad().mul_(gradient_factor);
  gradient_factor_ = gradient_factor;
  ++steps_taken_;
  begin_step(learning_rate);
  for (const auto& [factor, slots] : with_gradient()) update(slots, factor * learning_rate);
}

void Optimizer::step_on_device(const NumbersOnDevice& numbers) {
  const torch::NoGradGuard no_gradients;
  for (const auto& [factor, slots] : with_gradient())
    update_on_device(slots, factor == 1 ? numbers.learning_rate : numbers.learning_rate * factor, numbers);
}

void Optimizer::update_on_device(const Slots&, const Tensor&, const NumbersOnDevice&) {
  TORCH_CHECK(false, "this optimiser takes its numbers from the host");
}

void Optimizer::zero_gradients() {
  for (auto& slot : slots_) slot.parameter.mutable_grad().reset();
}

TensorMap Optimizer::state() const {
  TensorMap result;
  for (const auto& slot : slots_)
    for (const auto& [name, tensor] : slot.state) result[slot.name + "/" + name] = tensor;
  for (const auto& [name, tensor] : shared_state_) result[name] = tensor;
  return result;
}

void Optimizer::restore(const TensorMap& state, int64_t steps_taken) {
  const torch::NoGradGuard no_gradients;
  for (auto& [name, tensor] : this->state()) tensor.copy_(state.at(name));
  steps_taken_ = steps_taken;
}

std::unique_ptr<Optimizer> make_optimizer(const std::vector<std::pair<std::string, Tensor>>& parameters,
                                          const TrainOptions& options, double width_multiple) {
  std::vector<Slot> slots;
  for (const auto& [name, parameter] : parameters) slots.push_back(slot_of(name, parameter, options, width_multiple));
  return kind_of(options).make(std::move(slots), options);
}

int64_t state_numbers(const TrainOptions& options) { return kind_of(options).state_numbers; }

}  // namespace attnscale

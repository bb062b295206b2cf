#include "train/captured_step.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include "core/error.h"
#include "train/clipping.h"
#include "train/host_traffic.h"

namespace attnscale {
namespace {

c10::impl::VirtualGuardImpl device_of(at::Device device) { return c10::impl::VirtualGuardImpl(device.type()); }

at::Device current_device(const TrainOptions& options) { return device_of(at::Device(options.device)).getDevice(); }

std::vector<Tensor> gradients_of(const std::vector<Slot>& slots) {
  std::vector<Tensor> result;
  for (const auto& slot : slots)
    if (slot.parameter.grad().defined()) result.push_back(slot.parameter.grad());
  return result;
}

ConfigError not_captured(const std::string& why) {
  return ConfigError(
      fmt::format("train.cuda_graph: a step of this run cannot be one CUDA graph: {}; leave "
                  "train.cuda_graph out",
                  why));
}

}  // namespace

CapturedStep::CapturedStep(Gradients gradients, Optimizer& optimizer, const TrainOptions& options)
    : gradients_(std::move(gradients)),
      optimizer_(optimizer),
      options_(options),
      device_(current_device(options)),
      stream_(device_of(device_).getNewStream(device_)) {
  TORCH_CHECK(has_device_graphs(device_.type()), "no graphs of operators on ", device_);
  const auto scalar = [&] { return at::zeros({}, at::TensorOptions(at::kFloat).device(device_)); };
  learning_rate_ = scalar(), update_ = scalar();
  if (options_.dtype == "float16") loss_scale_ = scalar();
  numbers_ = at::zeros({2}, at::TensorOptions(at::kDouble).device(device_));
}

/// Puts the batch where the graph reads it.
void CapturedStep::take(const Questions& questions) {
  const bool fits = held_.inputs.defined() && held_.inputs.sizes() == questions.inputs.sizes() &&
                    held_.targets.sizes() == questions.targets.sizes();
  if (!fits) {
    graph_.reset();
    steps_of_this_shape_ = 0;
    held_ = {at::empty_like(questions.inputs, at::TensorOptions().device(device_)),
             at::empty_like(questions.targets, at::TensorOptions().device(device_))};
  }
  held_.inputs.copy_(questions.inputs);
  held_.targets.copy_(questions.targets);
}

/// Every operator of a step, and nothing that depends on what the host knows of it.
void CapturedStep::step() {
  const auto loss = gradients_(held_, loss_scale_);
  const torch::NoGradGuard no_gradients;
  const auto& slots = optimizer_.slots();
  if (loss_scale_.defined())
    if (const auto gradients = gradients_of(slots); !gradients.empty())
      at::_foreach_mul_(gradients, loss_scale_.reciprocal());
  const auto norm = gradient_norm(slots).to(loss.scalar_type());
  numbers_.copy_(at::stack({loss, norm}));
  NumbersOnDevice numbers{.learning_rate = learning_rate_,
                          .update = update_,
                          .left_out = numbers_.isfinite().all().logical_not().to(at::kFloat)};
  if (options_.clip != "global_norm") clip_gradients(slots, /*norm, which these do not ask for=*/0, options_);
  else if (options_.clip_norm > 0) numbers.gradient_divisor = (norm / options_.clip_norm).clamp_min(1).to(at::kFloat);
  optimizer_.step_on_device(numbers);
  optimizer_.zero_gradients();
}

void CapturedStep::capture() {
  graph_ = make_device_graph(device_.type());
  graph_->begin();
  try {
    step();
  } catch (const std::exception& error) {
    const std::string why = error.what();
    try {
      graph_->end();
    } catch (const std::exception&) {  // it says that what was recorded is of no use, which is known
    }
    graph_.reset();
    throw not_captured(why.substr(0, why.find('\n')));
  }
  graph_->end();
}

StepNumbers CapturedStep::run(const Questions& questions, double learning_rate, double loss_scale) {
  const auto device = device_of(device_);
  take(questions);
  learning_rate_.fill_(learning_rate);
  update_.fill_(optimizer_.steps_taken() + 1);
  if (loss_scale_.defined()) loss_scale_.fill_(loss_scale);
  device.synchronizeStream(device.getStream(device_));  // hardly a wait: the step before has ended
  {
    const c10::StreamGuard own_stream(stream_);
    ++steps_of_this_shape_;
    replayed_ = steps_of_this_shape_ > steps_before;
    if (replayed_) {
      if (!graph_) capture();
      graph_->replay();
    } else if (steps_of_this_shape_ == steps_before) {
      const HostTraffic traffic;
      step();
      if (const auto found = traffic.found()) throw not_captured(*found);
    } else {
      step();
    }
  }
  device.synchronizeStream(stream_);
  const auto numbers = numbers_.to(at::kCPU);
  return {.loss = numbers.const_data_ptr<double>()[0], .gradient_norm = numbers.const_data_ptr<double>()[1]};
}

std::vector<Problem> captured_step_problems(const TrainOptions& options) {
  if (!options.cuda_graph.value_or(false)) return {};
  std::vector<Problem> problems;
  const auto refuse = [&](const std::string& what) {
    problems.push_back({"cuda_graph", fmt::format("a CUDA graph {}; leave cuda_graph out", what)});
  };
  const bool adam = options.optimizer == "adamw" || options.optimizer == "adam";
  if (!adam || options.schedule == "schedule_free")
    refuse(fmt::format("holds updates of adamw and adam, not of {}",
                       options.schedule == "schedule_free" ? "schedule_free" : options.optimizer));
  if (options.dtype == "float64") refuse("has rates in float32, which float64 would be the worse for");
  if (options.activation_checkpointing) refuse("cannot read the generator's state, as activation_checkpointing does");
  return problems;
}

}  // namespace attnscale

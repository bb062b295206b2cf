#include "model/recomputation.h"

#include <mutex>

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "tensor/precision.h"

namespace attnscale {
namespace {

std::vector<Tensor> states_of(std::vector<at::Generator>& generators) {
  std::vector<Tensor> states;
  for (auto& generator : generators) {
    const std::lock_guard guard(generator.mutex());
    states.push_back(generator.get_state());
  }
  return states;
}

void set_states(std::vector<at::Generator>& generators, const std::vector<Tensor>& states) {
  for (size_t i = 0; i < generators.size(); ++i) {
    const std::lock_guard guard(generators[i].mutex());
    generators[i].set_state(states[i]);
  }
}

/// What the second run needs beside tensors: the work, and the circumstances of the first.
struct Again : torch::CustomClassHolder {
  Again(Recomputable what, std::vector<at::Generator> from, at::DeviceType where)
      : work(std::move(what)),
        generators(std::move(from)),
        device(where),
        states(states_of(generators)),
        products(mixed_dtype(where)) {}

  Recomputable work;
  std::vector<at::Generator> generators;
  at::DeviceType device;
  std::vector<Tensor> states;
  std::optional<at::ScalarType> products;
};

std::optional<Tensor> if_defined(const Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

/// The same numbers with a history that starts here.
Tensor fresh(const Tensor& tensor, bool with_gradient) {
  return tensor.defined() ? tensor.detach().set_requires_grad(with_gradient) : tensor;
}

class Recomputation : public torch::autograd::Function<Recomputation> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& x,
                                                const std::optional<Tensor>& maybe_bias,
                                                const std::optional<Tensor>& maybe_memory,
                                                const c10::intrusive_ptr<Again>& again) {
    const auto bias = maybe_bias.value_or(Tensor()), memory = maybe_memory.value_or(Tensor());
    const bool bias_learns = bias.defined() && bias.requires_grad();
    const bool memory_learns = memory.defined() && memory.requires_grad();
    context->save_for_backward({x, bias, memory});
    context->saved_data["again"] = c10::IValue::make_capsule(again);
    context->saved_data["bias_learns"] = bias_learns;
    context->saved_data["memory_learns"] = memory_learns;
    context->set_materialize_grads(false);
    // With gradients, which are thrown away: what runs may depend on whether they are asked for.
    const torch::AutoGradMode with_gradients(true);
    const auto result = again->work(fresh(x, true), fresh(bias, bias_learns), fresh(memory, memory_learns));
    if (!result.auxiliary_loss.defined()) return {result.output.detach()};
    return {result.output.detach(), result.auxiliary_loss.detach()};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto again = c10::static_intrusive_pointer_cast<Again>(context->saved_data["again"].toCapsule());
    const auto saved = context->get_saved_variables();
    const auto x = fresh(saved[0], true), bias = fresh(saved[1], context->saved_data["bias_learns"].toBool()),
               memory = fresh(saved[2], context->saved_data["memory_learns"].toBool());
    const auto result = run(*again, x, bias, memory);
    torch::autograd::variable_list roots, slopes;
    const auto add = [&](const Tensor& root, const Tensor& slope) {
      if (!slope.defined() || !root.requires_grad()) return;
      roots.push_back(root);
      slopes.push_back(slope);
    };
    add(result.output, gradients[0]);
    if (gradients.size() > 1) add(result.auxiliary_loss, gradients[1]);
    if (!roots.empty()) torch::autograd::backward(roots, slopes);
    const auto gradient = [](const Tensor& input) { return input.defined() ? input.grad() : Tensor(); };
    return {x.grad(), gradient(bias), gradient(memory), Tensor()};
  }

 private:
  static WithAuxiliary run(Again& again, const Tensor& x, const Tensor& bias, const Tensor& memory) {
    const auto later = states_of(again.generators);
    set_states(again.generators, again.states);
    const torch::AutoGradMode with_gradients(true);
    const ForwardPrecision precision(again.products, again.device);
    auto result = again.work(x, bias, memory);
    set_states(again.generators, later);
    return result;
  }
};

}  // namespace

WithAuxiliary recomputed(Recomputable work, const Tensor& x, const Tensor& bias, const Tensor& memory,
                         std::vector<at::Generator> generators) {
  TORCH_CHECK(x.requires_grad(), "recomputed: x needs no gradient");
  const auto outputs =
      Recomputation::apply(x, if_defined(bias), if_defined(memory),
                           c10::make_intrusive<Again>(std::move(work), std::move(generators), x.device().type()));
  return {.output = outputs[0], .auxiliary_loss = outputs.size() > 1 ? outputs[1] : Tensor()};
}

}  // namespace attnscale

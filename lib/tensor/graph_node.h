#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/types.h>

#include "tensor/leaf_gradients.h"

// Operations with a backward pass of their own.

namespace attnscale {

using torch::Tensor;
using torch::autograd::variable_list;

/// A node of autograd's graph. An operation derives from it, and has
///
///     Result forward(tensors and options...);                       // Result: Tensor or variable_list
///     variable_list backward(const variable_list& of_outputs);      // one for each tensor that forward is given
///
/// and keeps what both need as members. `torch::autograd::Function` does as much, with a map of boxed values by name
/// and a description of every tensor besides, which takes a small operation longer than its work. Unlike
/// there, no output may be an input itself, and forward-mode derivatives end here unsaid. Under LeafGradients a node
/// has no edges to leaves and adds to their `.grad`.
template <class Operation>
class GraphNode : public torch::autograd::Node {
 public:
  /// How many outputs, from the first on, have gradients.
  static constexpr size_t differentiable_outputs = SIZE_MAX;
  /// Whether `backward` wants to know which outputs have no gradient; otherwise those come as zeros.
  static constexpr bool sees_missing_gradients = false;

  /// Calls `forward` without a graph, and puts the operation into it where one is wanted. Undefined tensors stay so.
  template <class... Arguments>
  static auto apply(const Arguments&... arguments) {
    const auto node = make();
    node->recorded_ = torch::GradMode::is_enabled() && (learns(arguments) || ...);
    if (node->recorded_) (node->add_input(arguments), ...);
    auto outputs = [&] {
      const torch::NoGradGuard without_graph;
      return node->forward(arguments...);
    }();
    if (node->recorded_) {
      (refuse_among(outputs, arguments), ...);
      record(outputs, node);
      node->keep_all();
    }
    return outputs;
  }

  variable_list apply(variable_list&& of_outputs) final {
    const std::lock_guard lock(mutex_);
    TORCH_CHECK(leaves_.empty() || !released_, torch::autograd::ERR_BACKWARD_TWICE);
    TORCH_CHECK(leaves_.empty() || !torch::GradMode::is_enabled(),
                "LeafGradients: received create_graph, expected a backward pass without a graph of its own");
    if constexpr (!Operation::sees_missing_gradients)
      for (size_t i = 0; i < of_outputs.size(); ++i)
        if (!of_outputs[i].defined()) of_outputs[i] = input_metadata(i).zeros_like();
    auto of_inputs = [&] {
      std::optional<at::AutoDispatchBelowADInplaceOrView> straight_to_work;
      if (!torch::GradMode::is_enabled()) straight_to_work.emplace();  // no graph, no views to be told of
      return static_cast<Operation*>(this)->backward(of_outputs);
    }();
    TORCH_INTERNAL_ASSERT(of_inputs.size() == num_outputs(), "a gradient for each tensor that forward was given");
    for (auto& [input, leaf] : leaves_) add_gradient(leaf, std::exchange(of_inputs[input], Tensor()));
    return of_inputs;
  }

  void release_variables() final {
    const std::lock_guard lock(mutex_);
    for (auto& tensor : kept_) {
      tensor.own.reset();
      tensor.watched.reset_data();
    }
    released_ = true;
  }

 protected:
  /// Whether there may be a backward pass.
  bool recorded() const { return recorded_; }

  /// For the backward pass. Once, in `forward`; outputs are told from others.
  void keep(variable_list tensors) {
    if (recorded_) to_keep_ = std::move(tensors);
  }
  /// What was kept, not to be written into. @throws c10::Error if it was changed in place where others have it, too, or
  /// is gone since a backward pass went by
  variable_list kept() {
    TORCH_CHECK(!released_, torch::autograd::ERR_BACKWARD_TWICE);
    variable_list result;
    result.reserve(kept_.size());
    for (const auto& tensor : kept_)
      result.push_back(tensor.own.defined() ? tensor.own : tensor.watched.unpack(getptr()));
    return result;
  }

  /// In `backward`: whether the gradient of this tensor, counted among those given to `forward`, is asked for.
  bool wants(size_t input) const {
    return task_should_compute_output(input) ||
           std::any_of(leaves_.begin(), leaves_.end(), [&](const Leaf& leaf) { return leaf.input == input; });
  }

 private:
  // Nodes are counted from within since PyTorch 2.13, and were shared pointers with a deleter before.
  static auto make() {
    if constexpr (std::is_base_of_v<c10::intrusive_ptr_target, Operation>) return c10::make_intrusive<Operation>();
    else return std::shared_ptr<Operation>(new Operation, [](Operation* node) { deleteNode(node); });
  }

  static bool learns(const Tensor& input) { return input.defined() && input.requires_grad(); }
  template <class Option>
  static bool learns(const Option&) {
    // Or the graph would end here unseen.
    static_assert(
        !std::is_convertible_v<Option, std::optional<Tensor>> && !std::is_convertible_v<Option, at::TensorList>,
        "tensors come as `Tensor`, one by one, undefined where there is none");
    return false;
  }

  /// One whose gradient the node adds by itself.
  struct Leaf {
    size_t input;
    Tensor tensor;
  };

  void add_input(const Tensor& input) {
    const bool own = adds_gradient_of(input);
    if (own) leaves_.push_back({num_outputs(), input});
    add_next_edge(!own && input.defined() ? torch::autograd::impl::gradient_edge(input) : torch::autograd::Edge());
  }
  template <class Option>
  void add_input(const Option&) {}

  static void refuse_among(const Tensor& output, const Tensor& input) {
    TORCH_INTERNAL_ASSERT(!output.is_same(input), "an input was put out, whose place in the graph would be lost");
  }
  static void refuse_among(const variable_list& outputs, const Tensor& input) {
    for (const auto& output : outputs) refuse_among(output, input);
  }
  template <class Outputs, class Option>
  static void refuse_among(const Outputs&, const Option&) {}

  template <class Pointer>
  static void record(const Tensor& output, const Pointer& node) {
    torch::autograd::set_history(output, node);
  }
  template <class Pointer>
  static void record(const variable_list& outputs, const Pointer& node) {
    for (size_t i = 0; i < std::min(outputs.size(), Operation::differentiable_outputs); ++i) record(outputs[i], node);
  }

  /// Nobody else can change what `forward` made and gave to nobody. Of all else autograd watches that nobody does; an
  /// output that holds this node, which held it, would never go.
  struct Kept {
    Tensor own;
    torch::autograd::SavedVariable watched;
  };

  void keep_all() {
    kept_.reserve(to_keep_.size());
    for (auto& tensor : to_keep_) {
      const bool is_output = tensor.defined() && tensor.grad_fn().get() == this;
      if (is_only_here(tensor)) kept_.push_back({std::move(tensor), {}});
      else kept_.push_back({{}, {tensor, is_output}});
    }
    to_keep_.clear();
  }

  bool recorded_ = false, released_ = false;
  variable_list to_keep_;
  std::vector<Kept> kept_;
  std::vector<Leaf> leaves_;
};

}  // namespace attnscale

#include "tensor/kernels/adam_kernel.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/record_function.h>

#include "tensor/kernels/kernels.h"
#include "tensor/kernels/row_functions.h"

namespace attnscale {
namespace {

/// Numbers that one piece of work takes; sums are cut at them, whatever threads there are.
constexpr int64_t run_length = 1 << 13;

/// Calls work(run, first, count) for the runs of a tensor of `size` numbers.
template <class Work>
void by_runs(int64_t size, const Work& work) {
  const int64_t runs = (size + run_length - 1) / run_length;
  at::parallel_for(0, runs, 16, [&](int64_t begin, int64_t end) {
    for (int64_t run = begin; run < end; ++run) {
      const int64_t first = run * run_length;
      work(run, first, std::min(run_length, size - first));
    }
  });
}

/// In float32 where neither the largest square nor the smallest leaves its range, otherwise in float64.
double squares_of(const float* numbers, int64_t count) {
  constexpr float least = 1e-28F, most = 1e36F;
  const float quick = row_functions()->sum_of_squares(numbers, count);
  if (quick > least && quick < most) return quick;
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(numbers[i]) * numbers[i];
  return sum;
}

bool is_plain(const Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.is_contiguous();
}

}  // namespace

bool optimiser_has_kernel(const Tensor& parameter, const Tensor& gradient) {
  return has_kernels(at::kFloat) && is_plain(parameter) && is_plain(gradient);
}

double norm_of_all(const std::vector<Tensor>& tensors) {
  RECORD_FUNCTION("attnscale::norm_of_all", std::vector<c10::IValue>());
  double squares = 0;
  std::vector<double> sums;
  for (const auto& tensor : tensors) {
    TORCH_CHECK(tensor.is_contiguous(), "norm_of_all: ", tensor.sizes(), " of strides ", tensor.strides(),
                ", expected contiguous numbers");
    const auto* numbers = tensor.const_data_ptr<float>();
    sums.assign(static_cast<size_t>((tensor.numel() + run_length - 1) / run_length), 0);
    by_runs(tensor.numel(), [&](int64_t run, int64_t first, int64_t count) {
      sums[static_cast<size_t>(run)] = squares_of(numbers + first, count);
    });
    for (const double sum : sums) squares += sum;
  }
  return std::sqrt(squares);
}

void adamw_kernel(const std::vector<AdamTensors>& tensors, const AdamOptions& options, double learning_rate,
                  double weight_decay, double gradient_factor) {
  RECORD_FUNCTION("attnscale::adamw", std::vector<c10::IValue>());
  const auto steps = static_cast<double>(options.step);
  const AdamStep step{.gradient_factor = static_cast<float>(gradient_factor),
                      .kept = static_cast<float>(1 - learning_rate * weight_decay),
                      .new1 = static_cast<float>(1 - options.beta1),
                      .beta2 = static_cast<float>(options.beta2),
                      .new2 = static_cast<float>(1 - options.beta2),
                      .size = static_cast<float>(learning_rate / (1 - std::pow(options.beta1, steps))),
                      .root = static_cast<float>(std::sqrt(1 - std::pow(options.beta2, steps))),
                      .epsilon = static_cast<float>(options.epsilon)};
  for (const auto& [parameter, gradient, first_moment, second_moment] : tensors) {
    for (const auto& x : {parameter, gradient, first_moment, second_moment})
      TORCH_CHECK(x.is_contiguous() && x.sizes() == parameter.sizes(), "adamw_kernel: ", x.sizes(), " of strides ",
                  x.strides(), " beside a parameter ", parameter.sizes(), ", expected the same, contiguous");
    auto *weight = parameter.mutable_data_ptr<float>(), *first = first_moment.mutable_data_ptr<float>(),
         *second = second_moment.mutable_data_ptr<float>();
    const auto* given = gradient.const_data_ptr<float>();
    by_runs(parameter.numel(), [&](int64_t, int64_t from, int64_t count) {
      row_functions()->adam(step, given + from, weight + from, first + from, second + from, count);
    });
  }
}

}  // namespace attnscale

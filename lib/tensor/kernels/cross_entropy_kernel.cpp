#include "tensor/kernels/cross_entropy_kernel.h"

#include <cmath>

#include <ATen/record_function.h>

#include "tensor/graph_node.h"
#include "tensor/kernels/first_derivative.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/matrix_products.h"
#include "tensor/kernels/row_functions.h"

namespace attnscale {
namespace {

/// A term that is left out where it has no weight: 0 times infinity would be no number.
double weighed(double weight, double term) { return weight == 0 ? 0 : weight * term; }

class CrossEntropyKernel : public GraphNode<CrossEntropyKernel> {
 public:
  static constexpr size_t differentiable_outputs = 1;
  static constexpr bool sees_missing_gradients = true;

  /// @param divisor  not a number: how many targets count
  variable_list forward(const Tensor& given, const Tensor& targets, const CrossEntropyTerms& how, double divisor) {
    RECORD_FUNCTION("attnscale::cross_entropy", std::vector<c10::IValue>());
    const Tensor logits = given.contiguous(), wanted = targets.contiguous();
    const int64_t rows = wanted.numel(), vocabulary = logits.size(-1);
    const auto* target = wanted.const_data_ptr<int64_t>();
    const Tensor log_totals = empty_on_cpu({rows}, at::kFloat);
    const Tensor terms = zeros_on_cpu({rows, 2}, at::kDouble);  // of what is minimised, of the loss
    by_row_blocks(rows, row_block, [&](int64_t first, int64_t count) {
      for (int64_t i = first; i < first + count; ++i) {
        if (target[i] == how.ignored) continue;
        TORCH_CHECK(target[i] >= 0 && target[i] < vocabulary, "target ", target[i], " is not in a vocabulary of ",
                    vocabulary);
        const float* row = row_of(logits, i, vocabulary, 1);
        float sum = 0;
        const double log_total = row_functions()->log_sum_exp(row, vocabulary, &sum);
        log_totals.mutable_data_ptr<float>()[i] = static_cast<float>(log_total);
        double* of_row = terms.mutable_data_ptr<double>() + 2 * i;
        of_row[1] = log_total - row[target[i]];
        of_row[0] = weighed(1 - how.label_smoothing, of_row[1]) +
                    weighed(how.label_smoothing, log_total - sum / static_cast<double>(vocabulary)) +
                    weighed(how.z_loss, log_total * log_total);
      }
    });
    double minimised = 0, loss = 0;
    int64_t counted = 0;
    for (int64_t i = 0; i < rows; ++i) {
      minimised += terms.const_data_ptr<double>()[2 * i];
      loss += terms.const_data_ptr<double>()[2 * i + 1];
      counted += target[i] != how.ignored;
    }
    if (std::isnan(divisor)) divisor = static_cast<double>(counted);
    keep({logits, wanted, log_totals});
    how_ = how;
    divisor_ = divisor;
    const auto scalar = [&](double value) { return at::scalar_tensor(value / divisor, log_totals.options()); };
    return {scalar(minimised), scalar(loss)};
  }

  variable_list backward(const variable_list& gradients) {
    RECORD_FUNCTION("attnscale::cross_entropy_backward", std::vector<c10::IValue>());
    refuse_second_derivative("cross_entropy_kernel");
    if (!gradients[0].defined()) return {Tensor(), Tensor()};
    const auto saved = kept();
    const Tensor &logits = saved[0], &log_totals = saved[2];
    const auto* target = saved[1].const_data_ptr<int64_t>();
    const int64_t rows = saved[1].numel(), vocabulary = logits.size(-1);
    const double smoothing = how_.label_smoothing, scale = gradients[0].item<double>() / divisor_;
    const Tensor out = empty_on_cpu(logits.sizes(), logits.scalar_type());
    const auto shift = static_cast<float>(scale * smoothing / static_cast<double>(vocabulary));
    by_row_blocks(rows, row_block, [&](int64_t first, int64_t count) {
      for (int64_t i = first; i < first + count; ++i) {
        const bool narrow = out.scalar_type() == at::kBFloat16;
        float* of_row = narrow ? scratch(2, vocabulary) : out.mutable_data_ptr<float>() + i * vocabulary;
        if (target[i] == how_.ignored) {
          std::fill_n(of_row, vocabulary, 0.F);
        } else {
          const double log_total = log_totals.const_data_ptr<float>()[i];
          row_functions()->softmax_gradient(row_of(logits, i, vocabulary, 1), static_cast<float>(log_total),
                                            static_cast<float>(scale * (1 + 2 * how_.z_loss * log_total)), shift,
                                            of_row, vocabulary);
          of_row[target[i]] -= static_cast<float>(scale * (1 - smoothing));
        }
        if (narrow) convert(of_row, out.mutable_data_ptr<at::BFloat16>() + i * vocabulary, vocabulary);
      }
    });
    return {out, Tensor()};
  }

 private:
  CrossEntropyTerms how_;
  double divisor_ = 1;
};

}  // namespace

bool cross_entropy_has_kernel(const Tensor& logits) {
  const auto type = logits.scalar_type();
  return has_kernels(at::kFloat) && logits.is_cpu() && logits.numel() > 0 &&
         (type == at::kFloat || type == at::kBFloat16);
}

CrossEntropy cross_entropy_kernel(const Tensor& logits, const Tensor& targets, const CrossEntropyTerms& terms,
                                  const Tensor& count) {
  TORCH_CHECK(logits.dim() > 1 && targets.sizes() == logits.sizes().slice(0, logits.dim() - 1),
              "cross_entropy_kernel: logits ", logits.sizes(), " and targets ", targets.sizes(),
              ", expected [.., V] and [..]");
  const double divisor = count.defined() ? count.item<double>() : std::nan("");
  const auto both = CrossEntropyKernel::apply(logits, targets, terms, divisor);
  return {both[0], both[1]};
}

}  // namespace attnscale

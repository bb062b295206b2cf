#include "model/residual.h"

#include <cmath>

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include "tensor/dropout.h"
#include "tensor/full_precision.h"
#include "tensor/kernels/kernels.h"
#include "tensor/precision.h"

namespace attnscale {

RowDrops::RowDrops() : generator_(at::make_generator<at::CPUGeneratorImpl>()) {}

Tensor RowDrops::draw(int64_t rows, double drop, const Tensor& like) {
  const auto kept = at::empty({rows, 1, 1}, torch::kFloat64).bernoulli_(1 - drop, generator_);
  return (kept / (1 - drop)).to(like.device(), like.scalar_type());
}

Residual::Residual(torch::nn::Module& block, const ModelOptions& options, int64_t layer, int number,
                   std::shared_ptr<RowDrops> drops)
    : dropout_(options.dropout),
      drop_(options.stochastic_depth * static_cast<double>(layer + 1) / static_cast<double>(options.depth)),
      drops_(std::move(drops)) {
  const auto& placement = options.norm_placement;
  const auto norm = [&](const char* suffix) {
    return block.register_module(fmt::format("norm{}{}", number, suffix), std::make_shared<Norm>(options));
  };
  if (placement == "before" || placement == "both" || (placement == "parallel" && number == 1)) before_ = norm("");
  if (placement == "both") inside_ = norm("_after");
  if (placement == "after" || placement == "deep_norm") after_ = norm("");

  const double depth = static_cast<double>(options.depth);
  if (placement == "deep_norm") stream_scale_ = std::pow(2 * depth, 0.25);
  if (options.residual == "scaled") scale_ = 1 / std::sqrt(2 * depth);
  if (options.residual == "rezero" || options.residual == "layer_scale")
    learned_ = block.register_parameter(fmt::format("residual{}", number),
                                        torch::empty({options.residual == "rezero" ? 1 : options.model_dim}));
}

at::ScalarType read_dtype(bool narrow) {
  const bool mixed = narrow && autocast_applies() && mixed_dtype(at::kCPU) == at::kBFloat16;
  return mixed && has_kernels(at::kBFloat16) ? at::kBFloat16 : at::kFloat;
}

Tensor read_by(const Reader& reader, const Flow& flow) {
  if (flow.read.defined()) return flow.read;
  if (reader.norm == nullptr) return flow.stream;
  if (reader.norm->joins(flow.stream, {})) return reader.norm->of_sum(flow.stream, {}, reader.dtype).norm;
  return reader.norm->forward(flow.stream);
}

bool Residual::only_adds(bool training) const {
  const bool draws = training && (dropout_ > 0 || drop_ > 0);
  return !inside_ && !after_ && !learned_.defined() && !draws && scale_ == 1 && stream_scale_ == 1;
}

Flow Residual::write(const Tensor& x, Tensor output, bool training, const Reader& next) const {
  if (next.norm && only_adds(training) && next.norm->joins(x, output)) {
    const auto both = next.norm->of_sum(x, output, next.dtype);
    return {both.stream, both.norm};
  }
  if (inside_) output = inside_->forward(output.to(x.scalar_type()));  // norms are taken in the stream's dtype
  output = with_dropout(output, dropout_, training);
  if (learned_.defined()) output = output * learned_.to(output.scalar_type());
  if (scale_ != 1) output = output * scale_;
  if (training && drop_ > 0) output = output * drops_->draw(output.size(0), drop_, output);
  const auto sum = stream_scale_ == 1 ? x + output : at::add(output, x, stream_scale_);
  return {after_ ? after_->forward(sum) : sum};
}

}  // namespace attnscale

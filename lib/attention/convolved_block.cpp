#include "attention/convolved_block.h"

#include <ATen/ops/zeros.h>

#include "attention/blocks.h"
#include "attention/projections.h"
#include "attention/recurrent_attention.h"
#include "tensor/full_precision.h"

namespace attnscale {

ConvolvedBlock::ConvolvedBlock(const Geometry& geometry, const Shape& shape) : Attention(geometry), shape_(shape) {
  in_ = register_module("in", input_projection(geometry.model_dim, shape.projected));
  convolution_ = register_module(
      "convolution", std::make_shared<ShortConvolution>(shape.convolved, shape.taps, shape.convolution_bias));
  log_rate_ = register_parameter("log_rate", initial_log_rate(geometry.num_heads));
  step_bias_ = register_parameter("step_bias", initial_step_bias(geometry.num_heads));
  out_ = register_module("out", output_projection(shape.inner, geometry.model_dim, geometry.depth));
}

State ConvolvedBlock::new_state(int64_t batch, torch::TensorOptions options) const {
  const auto wide = options.dtype(accumulation_type(c10::typeMetaToScalarType(options.dtype())));
  return {.tensors = {{"rows", at::zeros({batch, shape_.taps - 1, shape_.convolved}, wide)},
                      {"state", at::zeros({batch, geometry_.num_heads, shape_.state_rows, shape_.state_width}, wide)}}};
}

Tensor ConvolvedBlock::decode(const Inputs& in, State& state) {
  auto output = run(in, &state);
  state.length += in.hidden.size(2);
  return output;
}

int64_t ConvolvedBlock::state_bytes(const Shape& shape, int64_t heads, int64_t batch) {
  return float_bytes * batch * ((shape.taps - 1) * shape.convolved + heads * shape.state_rows * shape.state_width);
}

Tensor ConvolvedBlock::run(const Inputs& in, State* state) const {
  const auto projected = in_->forward(in.hidden.squeeze(1));  // [B, T, projected]
  Tensor y;
  {
    const FullPrecision sums_stay_float32;
    y = mixed(projected.to(accumulation_type(projected.scalar_type())), in.key_padding, state,
              projected.scalar_type());
  }
  return out_->forward(y.to(in.hidden.scalar_type())).unsqueeze(1);
}

}  // namespace attnscale

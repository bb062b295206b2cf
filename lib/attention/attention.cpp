#include "attention/attention.h"

#include "core/error.h"

namespace attnscale {

int64_t State::bytes() const {
  int64_t total = 0;
  for (const auto& [name, tensor] : tensors) total += tensor.numel() * tensor.element_size();
  return total;
}

State Attention::new_state(int64_t, torch::TensorOptions) const {
  throw ConfigError("this attention variant does not decode with a state");
}

Tensor Attention::decode(const Inputs&, State&) {
  throw ConfigError("this attention variant does not decode with a state");
}

bool Attention::sees(int64_t query, int64_t key, int64_t) const { return !geometry_.causal || key <= query; }

}  // namespace attnscale

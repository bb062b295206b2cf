#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

namespace attnscale {

/// Standard deviation of every weight matrix and embedding at the start (GPT-2).
inline constexpr double initial_std = 0.02;

/// Sets a model's parameters as GPT-2 does: weights from N(0, 0.02), those that write into the residual stream
/// (`mixer.output`, `feed_forward.down`) narrower by 1 / sqrt(2 depth), biases 0, norms' weights 1. What a variant owns
/// (below `mixer.attention`) stays as its constructor made it.
///
/// Each parameter draws from a stream of its own, named by the seed and the parameter's name, so that another layer or
/// another variant leaves all other draws as they were.
/// Source: Radford et al. 2019 (GPT-2), section 2.3.
void initialise(torch::nn::Module& model, int64_t depth, uint64_t init_seed);

/// While it lives, the default CPU generator draws from `seed`; then it goes on as if nothing had been drawn.
class DefaultSeed {
 public:
  explicit DefaultSeed(uint64_t seed);
  ~DefaultSeed();
  DefaultSeed(const DefaultSeed&) = delete;
  DefaultSeed& operator=(const DefaultSeed&) = delete;

 private:
  torch::Tensor before_;
};

}  // namespace attnscale

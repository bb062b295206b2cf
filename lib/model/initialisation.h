#pragma once

#include <torch/nn/module.h>

#include "model/options.h"

namespace attnscale {

/// Sets a model's parameters. Matrices of the blocks, by `initialisation`:
///   gpt2        N(0, 0.02^2); those that write into the stream (`output`, `down`) narrower by
///               1 / sqrt(2 depth)                                   (Radford et al. 2019, section 2.3)
///   xavier      uniform within sqrt(6 / (in + out))                 (Glorot and Bengio 2010, equation 16)
///   kaiming     N(0, 2 / in)                                        (He et al. 2015, arXiv:1502.01852, equation 10)
///   small       N(0, 2 / (5 M))
///               (Nguyen and Salazar 2019, arXiv:1910.05895, section 2.2)
///   deep_norm   N(0, 2 / (in + out)), value, output and feed-forward matrices narrower by (8 depth)^(-1/4)
///               (Wang et al. 2022, arXiv:2203.00555, figure 2, decoder)
///   orthogonal  columns or rows of unit length at right angles      (Saxe et al. 2013, arXiv:1312.6120, section 3)
/// where query, key and value, and gate and up, count as matrices of their own. Embeddings, relative positions and the
/// head are from N(0, embedding_std^2), a factorised embedding's two maps keep lengths on average (N(0, 1 / in)),
/// biases are 0, norms' weights 1, and the factors of residuals and dynamic tanh start where their options say. With
/// mup_base_dim the blocks' matrices are m times as wide (`width_multiple`), gpt2's sqrt(m) times, as its deviation
/// does not fall with the width by itself. What a variant owns (below `mixer.attention`, `cross.attention`) stays as
/// its constructor made it.
///
/// Each parameter draws from a stream of its own, named by the seed and the parameter's name, so that another layer or
/// another variant leaves all other draws as they were.
void initialise(torch::nn::Module& model, const ModelOptions& options, uint64_t init_seed);

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

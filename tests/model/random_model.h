#pragma once

#include <memory>

#include <ATen/Context.h>

#include "model/attention_choice.h"
#include "model/transformer.h"

namespace attnscale {

/// Weights large enough that every part shows in the logits; float64.
inline std::shared_ptr<Transformer> random_model(const ModelOptions& options, const AttentionChoice& attention = {},
                                                 int64_t context = 16) {
  auto model = std::make_shared<Transformer>(options, attention, context, /*init_seed=*/1);
  const torch::NoGradGuard guard;
  model->to(torch::kFloat64);
  torch::manual_seed(2);
  for (auto& parameter : model->parameters()) parameter.normal_(0, 0.4);
  model->eval();
  return model;
}

}  // namespace attnscale

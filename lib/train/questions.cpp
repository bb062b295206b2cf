#include "train/questions.h"

#include <ATen/Functions.h>

namespace attnscale {
namespace {

/// int64 [R, T + 1]
Tensor tokens_of(const Batch& batch) {
  return at::from_blob(const_cast<int64_t*>(batch.tokens.data()), {batch.rows, batch.context + 1}, at::kLong);
}

/// bool [R, T]
Tensor asked_of(const Batch& batch) {
  return at::from_blob(const_cast<uint8_t*>(batch.asked.data()), {batch.rows, batch.context}, at::kByte).to(at::kBool);
}

}  // namespace

Questions questions_of(const Batch& batch, const ModelOptions& model) {
  const auto tokens = tokens_of(batch);
  const auto inputs = tokens.narrow(1, 0, batch.context);
  const auto targets = model.head == "reconstruct" ? inputs : tokens.narrow(1, 1, batch.context);
  if (batch.asked.empty()) return {inputs, targets};
  return {inputs, targets.masked_fill(asked_of(batch).logical_not(), not_asked)};
}

}  // namespace attnscale

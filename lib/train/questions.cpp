#include "train/questions.h"

#include <cmath>

#include <ATen/Functions.h>

#include "core/hash.h"
#include "data/random.h"
#include "data/task_source.h"

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

/// @param inputs  int64 [R, T]
Questions masked(const Tensor& inputs, const ModelOptions& model, uint64_t seed) {
  const int64_t rows = inputs.size(0), context = inputs.size(1), mask = model.vocab_size.value() - 1;
  const auto wanted = std::llround(model.mask_probability * static_cast<double>(context));
  Questions questions{inputs.clone(), at::full_like(inputs, not_asked, at::MemoryFormat::Contiguous)};
  questions.inputs = questions.inputs.contiguous();
  Random random(seed);
  for (int64_t row = 0; row < rows; ++row) {
    auto* shown = questions.inputs.mutable_data_ptr<int64_t>() + row * context;
    auto* target = questions.targets.mutable_data_ptr<int64_t>() + row * context;
    for (const int64_t at : draw_distinct(random, std::max<int64_t>(1, wanted), context)) {
      target[at] = shown[at];
      const auto luck = random.below(10);
      if (luck < 8) shown[at] = mask;
      else if (luck == 8) shown[at] = static_cast<int64_t>(random.below(static_cast<uint64_t>(mask)));
    }
  }
  return questions;
}

}  // namespace

Questions questions_of(const Batch& batch, const ModelOptions& model, uint64_t seed) {
  const auto tokens = tokens_of(batch);
  const auto inputs = tokens.narrow(1, 0, batch.context);
  if (model.head == "masked_token") return masked(inputs, model, seed);
  const auto targets = model.head == "reconstruct" ? inputs : tokens.narrow(1, 1, batch.context);
  const auto counted = batch.asked.empty() ? targets : targets.masked_fill(asked_of(batch).logical_not(), not_asked);
  const int64_t outputs = num_outputs(model, batch.context);
  return {inputs, counted.narrow(1, batch.context - outputs, outputs)};
}

Questions training_questions(const Batch& batch, const ModelOptions& model, uint64_t run_seed, int64_t step) {
  const bool draws = model.head == "masked_token";
  return questions_of(batch, model, draws ? stream_seed(run_seed, "mask", static_cast<uint64_t>(step)) : 0);
}

std::optional<Truth> truth_of(const Source& source, const ModelOptions& model, int64_t context) {
  if (!bayes_predictor_answers(model.head)) return std::nullopt;
  auto truth = source.truth(context);
  const bool whole = num_outputs(model, context) == context;
  return truth && (whole || truth->bayes_accuracy) ? truth : std::nullopt;
}

bool bayes_predictor_answers(const std::string& head) { return head != "masked_token"; }

}  // namespace attnscale

#include "train/evaluate.h"

#include <algorithm>
#include <mutex>
#include <numeric>

#include "train/stepper.h"

namespace attnscale {
namespace {

// One number for all runs ever: the set is a yardstick, not a sample.
constexpr uint64_t validation_seed = 0;
// Large enough for full speed, small enough that logits over a large vocabulary fit.
constexpr int64_t tokens_per_batch = 2048;

int64_t most_rows(int64_t context) { return std::max<int64_t>(1, tokens_per_batch / context); }

}  // namespace

int64_t ValidationSet::num_windows(int64_t context, int64_t tokens) {
  const int64_t windows = (tokens + context - 1) / context;
  const int64_t rows = std::min(most_rows(context), windows);
  return (windows + rows - 1) / rows * rows;
}

int64_t ValidationSet::most_tokens(int64_t context, int64_t windows) {
  const int64_t rows = std::min(most_rows(context), windows);
  return windows / rows * rows * context;
}

ValidationSet::ValidationSet(const Source& source, int64_t context, int64_t tokens) {
  const int64_t windows = (tokens + context - 1) / context;
  const int64_t rows = std::min(most_rows(context), windows);
  double sum = 0;
  bool known = true;
  for (int64_t index = 0; index * rows < windows; ++index) {
    batches_.push_back(source.batch(Split::validation, validation_seed, index, rows, context));
    const auto scores = source.bayes_log_probabilities(batches_.back());
    known = known && !scores.empty();
    sum = std::accumulate(scores.begin(), scores.end(), sum);
  }
  if (known) bayes_loss_ = -sum / static_cast<double>(this->tokens());
}

int64_t ValidationSet::tokens() const {
  return static_cast<int64_t>(batches_.size()) * batches_.front().rows * batches_.front().context;
}

Evaluation ValidationSet::evaluate(Transformer& model, const std::string& dtype) const {
  const torch::NoGradGuard no_gradients;
  const bool was_training = model.is_training();
  model.eval();
  const auto device = model.parameters().front().device();
  double sum = 0;
  for (const auto& batch : batches_)
    sum +=
        next_token_loss(model, tokens_of(batch).to(device), dtype, at::Reduction::None).sum(at::kDouble).item<double>();
  model.train(was_training);
  return {.loss = sum / static_cast<double>(tokens()), .bayes_loss = bayes_loss_};
}

std::shared_ptr<const ValidationSet> validation_set(const RunConfig& config) {
  static std::mutex mutex;
  static std::string latest_key;
  static std::shared_ptr<const ValidationSet> latest;
  const auto source = config.open_source();
  // What the set is made from. The source's address would do but for one freed and another made in its place.
  const auto key = canonical(Json{{"source", config.data.source},
                                  {"options", config.data.options},
                                  {"fingerprint", source->fingerprint()},
                                  {"context", config.data.context},
                                  {"tokens", config.train.eval_tokens}});
  const std::lock_guard guard(mutex);
  if (key != latest_key) {
    latest = std::make_shared<const ValidationSet>(*source, config.data.context, config.train.eval_tokens);
    latest_key = key;
  }
  return latest;
}

}  // namespace attnscale

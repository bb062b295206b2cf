#include "train/evaluate.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <mutex>
#include <numeric>

#include "core/hash.h"
#include "train/stepper.h"

namespace attnscale {
namespace {

// One number for all runs ever: the set is a yardstick, not a sample.
constexpr uint64_t validation_seed = 0;
// Large enough for full speed, small enough that logits over a large vocabulary fit.
constexpr int64_t tokens_per_batch = 2048;

// Of positions: enough for a curve, few enough for a row of results.
constexpr int64_t most_bins = 32;

int64_t most_rows(int64_t context) { return std::max<int64_t>(1, tokens_per_batch / context); }

/// The bin [2^i, 2^(i+1) - 1] of a distance; made if it is not there, with those below it.
Bin& bin_of_distance(std::vector<Bin>& bins, int64_t distance) {
  const auto index = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(distance)) - 1);
  while (bins.size() <= index) {
    const int64_t first = int64_t{1} << bins.size();
    bins.push_back({.first = first, .last = 2 * first - 1});
  }
  return bins[index];
}

/// Sums become means; bins without a target go.
void average(std::vector<Bin>& bins) {
  std::erase_if(bins, [](const Bin& bin) { return bin.count == 0; });
  for (auto& bin : bins) {
    const auto count = static_cast<double>(bin.count);
    bin.loss /= count, bin.accuracy /= count, bin.bayes_loss /= count;
  }
}

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

template <class Work>
void ValidationSet::for_each_window(Work work) const {
  const int64_t context = batches_.front().context, outputs = questions_.front().targets.size(1);
  for (const auto& scores : scores_)
    for (int64_t end = context; end <= std::ssize(scores); end += context)
      work(scores.begin() + end - outputs, scores.begin() + end);
}

ValidationSet::ValidationSet(const Source& source, int64_t context, int64_t tokens, const ModelOptions& model,
                             Split split) {
  const int64_t windows = (tokens + context - 1) / context;
  const int64_t rows = std::min(most_rows(context), windows);
  const auto seed = split == Split::train ? stream_seed(validation_seed, "training windows") : validation_seed;
  for (int64_t index = 0; index * rows < windows; ++index) {
    batches_.push_back(source.batch(split, seed, index, rows, context));
    auto scores =
        bayes_predictor_answers(model.head) ? source.bayes_log_probabilities(batches_.back()) : std::vector<double>();
    if (!scores.empty()) scores_.push_back(std::move(scores));
  }
  for (const auto& batch : batches_) {
    questions_.push_back(questions_of(batch, model, stream_seed(validation_seed, "mask", questions_.size())));
    num_asked_ += questions_.back().targets.ne(not_asked).sum().item<int64_t>();
  }
  if (scores_.size() == batches_.size()) {
    double sum = 0;  // 0 where a target does not count
    for_each_window([&](auto begin, auto end) { sum = std::accumulate(begin, end, sum); });
    bayes_loss_ = sum == 0 ? 0 : -sum / static_cast<double>(num_asked_);  // never -0
  } else scores_.clear();
  if (bayes_loss_ && batches_.front().asked.empty()) bayes_loss_error_ = error_over_windows();
}

double ValidationSet::error_over_windows() const {
  double sum = 0, squares = 0, count = 0;
  for_each_window([&](auto begin, auto end) {
    const double mean = -std::accumulate(begin, end, 0.0) / static_cast<double>(end - begin);
    sum += mean, squares += mean * mean, ++count;
  });
  const double variance =
      std::max(0.0, squares / count - (sum / count) * (sum / count)) * count / std::max(1.0, count - 1);
  return std::sqrt(variance / count);
}

int64_t ValidationSet::tokens() const {
  return static_cast<int64_t>(batches_.size()) * batches_.front().rows * batches_.front().context;
}

std::vector<Bin> ValidationSet::bins_by_position() const {
  const int64_t context = batches_.front().context, width = (context + most_bins - 1) / most_bins;
  std::vector<Bin> bins;
  for (int64_t first = 1; first <= context; first += width)
    bins.push_back({.first = first, .last = std::min(first + width - 1, context)});
  return bins;
}

Evaluation ValidationSet::evaluate(Transformer& model, const std::string& dtype) const {
  const torch::NoGradGuard no_gradients;
  const bool was_training = model.is_training();
  model.eval();
  const auto device = model.parameters().front().device();
  Evaluation evaluation{
      .bayes_loss = bayes_loss_, .bayes_loss_error = bayes_loss_error_, .positions = bins_by_position()};
  const int64_t context = batches_.front().context, width = evaluation.positions.front().last;
  const int64_t outputs = questions_.front().targets.size(1);
  for (size_t i = 0; i < batches_.size(); ++i) {
    const auto& batch = batches_[i];
    const auto logits = logits_of(model, questions_[i].inputs.to(device), dtype);
    const auto asked = questions_[i].targets.flatten().contiguous();  // on the host
    const auto targets = asked.to(device);
    const auto losses =
        at::cross_entropy_loss(logits, targets, {}, at::Reduction::None, not_asked).to(at::kCPU, at::kDouble);
    const auto hits = logits.argmax(-1).eq(targets).to(at::kCPU);
    for (int64_t output = 0; output < losses.numel(); ++output) {
      if (asked.const_data_ptr<int64_t>()[output] == not_asked) continue;
      const double loss = losses.const_data_ptr<double>()[output], hit = hits.const_data_ptr<bool>()[output];
      // What the batch says of its targets: a window's outputs are the last of its T.
      const int64_t at = output / outputs * context + context - outputs + output % outputs;
      const double bayes_loss = scores_.empty() ? 0 : -scores_[i][at];
      const auto add_to = [&](Bin& bin) {
        bin.count += 1, bin.loss += loss, bin.accuracy += hit, bin.bayes_loss += bayes_loss;
      };
      evaluation.loss += loss;
      evaluation.accuracy += hit;
      add_to(evaluation.positions[at % context / width]);
      if (!batch.distances.empty() && batch.distances[at] > 0)
        add_to(bin_of_distance(evaluation.distances, batch.distances[at]));
    }
  }
  model.train(was_training);
  evaluation.loss /= static_cast<double>(num_asked_);
  evaluation.accuracy /= static_cast<double>(num_asked_);
  average(evaluation.positions);
  average(evaluation.distances);
  return evaluation;
}

Json details(const Evaluation& evaluation) {
  const auto columns = [&](const std::vector<Bin>& bins) {
    Json json = {{"first", Json::array()},
                 {"last", Json::array()},
                 {"count", Json::array()},
                 {"loss", Json::array()},
                 {"accuracy", Json::array()}};
    for (const auto& bin : bins) {
      json["first"].push_back(bin.first);
      json["last"].push_back(bin.last);
      json["count"].push_back(bin.count);
      json["loss"].push_back(bin.loss);
      json["accuracy"].push_back(bin.accuracy);
      if (evaluation.bayes_loss) json["bayes_loss"].push_back(bin.bayes_loss);
    }
    return json;
  };
  Json json = {{"positions", columns(evaluation.positions)}};
  if (!evaluation.distances.empty()) json["distances"] = columns(evaluation.distances);
  return json;
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
                                  {"head", config.model.head},
                                  {"mask_probability", config.model.mask_probability},
                                  {"vocab_size", *config.model.vocab_size},
                                  {"input_length", config.model.input_length.value_or(0)},
                                  {"tokens", config.train.eval_tokens}});
  const std::lock_guard guard(mutex);
  if (key != latest_key) {
    latest =
        std::make_shared<const ValidationSet>(*source, config.data.context, config.train.eval_tokens, config.model);
    latest_key = key;
  }
  return latest;
}

}  // namespace attnscale

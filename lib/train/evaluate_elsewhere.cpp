#include "train/evaluate_elsewhere.h"

#include <fmt/format.h>

#include "data/registry.h"
#include "model/attention_choice.h"
#include "train/checkpoint.h"
#include "train/config_checks.h"
#include "train/evaluate.h"

namespace attnscale {
namespace {

RunConfig with_longer_context(RunConfig config) {
  config.data.context = config.train.eval_context;
  return config;
}

Json scored_on_longer(const RunConfig& config, Transformer& model) {
  const auto longer = with_longer_context(config);
  Transformer same(config.model, config.attention, longer.data.context, 0);
  const auto like = model.parameters().front();
  same.to(like.device(), like.scalar_type());
  copy_tensors(tensors_of(model), tensors_of(same));
  const ValidationSet windows(*config.open_source(), longer.data.context, config.train.eval_tokens, config.model);
  const auto evaluation = windows.evaluate(same, config.train.dtype);
  Json json = {{"context", longer.data.context}, {"loss", evaluation.loss}, {"accuracy", evaluation.accuracy}};
  if (evaluation.bayes_loss) json["bayes_loss"] = *evaluation.bayes_loss;
  json.update(details(evaluation));
  return json;
}

}  // namespace

Json evaluate_elsewhere(const RunConfig& config, Transformer& model) {
  Json json = Json::object();
  if (const int64_t tokens = config.train.eval_training_tokens; tokens > 0) {
    const ValidationSet windows(*config.open_source(), config.data.context, tokens, config.model, Split::train);
    json["training_loss"] = windows.evaluate(model, config.train.dtype).loss;
  }
  if (config.train.eval_context > 0) json["longer"] = scored_on_longer(config, model);
  return json;
}

void check_longer_windows(const RunConfig& config, std::vector<Problem>& problems) {
  const int64_t context = config.train.eval_context;
  if (context == 0) return;
  const auto tell = [&](std::string message) { problems.push_back({"train.eval_context", std::move(message)}); };
  if (context <= config.data.context)
    return tell(fmt::format("{} is not longer than data.context {}; take more, such as {}, or leave it out", context,
                            config.data.context, 2 * config.data.context));
  if (config.model.head != "next_token")
    return tell(
        fmt::format("longer windows are for model.head \"next_token\", not \"{}\"; leave it out", config.model.head));
  if (source_named(config.data.source).has_answers)
    return tell(
        fmt::format("a longer window of {} is another task; leave it out, and sweep data.context", config.data.source));
  const auto same = with_longer_context(config);
  for (const auto& problem : model_problems(same.model, same.attention, context))
    return tell(fmt::format("in windows of {}: {}", context, problem.message));
  const auto own = cost_of(config).parameters.total, longer = cost_of(same).parameters.total;
  if (own != longer)
    return tell(fmt::format(
        "the model has parameters for each position, {} in windows of {} and {} in windows of {}, and those beyond are "
        "not trained; take model.position \"rotary\", \"alibi\", \"relative\", \"sinusoidal\" or \"none\", or another "
        "variant",
        own, config.data.context, longer, context));
  const auto windows = config.open_source()->num_validation_windows(context);
  if (windows == 0) return tell(fmt::format("the data has no window of {} tokens to validate; take fewer", context));
  check_validation(same, {.validation_windows = windows}, problems);
}

}  // namespace attnscale

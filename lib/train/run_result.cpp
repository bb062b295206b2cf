#include "train/run_result.h"

#include <algorithm>

#include "train/provenance.h"

namespace attnscale {
namespace {

int64_t tokens_after(const RunConfig& config, int64_t steps) {
  return steps * config.train.batch_size * config.data.context;
}

/// Final loss and what it is compared with; only a run that is done has them.
void add_losses(Json& row, const std::vector<Json>& evaluations) {
  if (evaluations.empty()) return;
  const auto& last = evaluations.back();
  row["loss"] = last["loss"];
  row["best_loss"] = (*std::min_element(evaluations.begin(), evaluations.end(), [](const Json& a, const Json& b) {
    return a["loss"].get<double>() < b["loss"].get<double>();
  }))["loss"];
  for (const auto* key : {"bayes_loss", "excess"})
    if (last.contains(key)) row[key] = last[key];
}

void add_truth(Json& row, const RunConfig& config) {
  const auto truth = config.open_source()->truth(config.data.context);
  if (!truth) return;
  row["truth"] = {{"entropy_rate", truth->entropy_rate},
                  {"bayes_loss", truth->bayes_loss},
                  {"bayes_loss_error", truth->bayes_loss_error},
                  {"derivation", truth->derivation}};
}

Json curve_of(const std::vector<Json>& evaluations) {
  Json curve = {{"steps", Json::array()}, {"tokens", Json::array()}, {"flops", Json::array()}, {"loss", Json::array()}};
  for (const auto& row : evaluations) {
    curve["steps"].push_back(row["step"]);
    for (const auto* key : {"tokens", "flops", "loss"}) curve[key].push_back(row[key]);
  }
  return curve;
}

}  // namespace

Json result_row(const RunConfig& config, const ModelCost& cost, const RunOutcome& outcome) {
  const int64_t tokens = tokens_after(config, outcome.steps);
  const auto total = [&](double flops_per_token) { return flops_per_token * static_cast<double>(tokens); };
  Json row = {{"schema", "attnscale.result/1"}, {"id", config.id()}, {"status", outcome.status}};
  if (outcome.status == "done") add_losses(row, outcome.evaluations);
  if (outcome.diverged_at) row["diverged_at"] = *outcome.diverged_at;
  if (!outcome.message.empty()) row["message"] = outcome.message;
  add_truth(row, config);
  row["steps"] = outcome.steps;
  row["params"] = cost.parameters.total;
  row["parameters"] = cost.parameters.to_json();
  row["tokens"] = tokens;
  row["flops"] = total(cost.flops_per_token.executed);
  row["flops_ledger"] = {{"six_n", total(cost.flops_per_token.six_n)},
                         {"six_n_with_head", total(cost.flops_per_token.six_n_with_head)},
                         {"algorithmic", total(cost.flops_per_token.algorithmic)},
                         {"executed", total(cost.flops_per_token.executed)}};
  row["seed"] = config.train.seed;
  row["curve"] = curve_of(outcome.evaluations);
  row["config"] = config.to_json();
  row["timing"] = {{"seconds", outcome.seconds},
                   {"tokens_per_second", outcome.seconds > 0 ? static_cast<double>(tokens) / outcome.seconds : 0.0},
                   {"peak_memory_bytes", peak_memory_bytes()}};
  row["provenance"] = provenance();
  row["provenance"]["data"] = config.open_source()->fingerprint();
  row["provenance"]["started"] = outcome.started;
  row["provenance"]["finished"] = outcome.finished;
  return row;
}

}  // namespace attnscale

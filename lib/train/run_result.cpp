#include "train/run_result.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/hash.h"
#include "core/json_paths.h"
#include "model/attention_choice.h"
#include "train/provenance.h"
#include "train/questions.h"
#include "train/ramp.h"
#include "train/run_flags.h"
#include "train/watch.h"

namespace attnscale {
namespace {

/// Final loss and what it is compared with; only a run that is done has them.
void add_losses(Json& row, const std::vector<Json>& evaluations) {
  if (evaluations.empty()) return;
  const auto& last = evaluations.back();
  row["loss"] = last["loss"];
  row["best_loss"] = (*std::min_element(evaluations.begin(), evaluations.end(), [](const Json& a, const Json& b) {
    return a["loss"].get<double>() < b["loss"].get<double>();
  }))["loss"];
  for (const auto* key :
       {"bayes_loss", "bayes_loss_error", "excess", "accuracy", "positions", "distances", "training_loss", "longer"})
    if (last.contains(key)) row[key] = last[key];
}

void add_truth(Json& row, const RunConfig& config) {
  const auto truth = truth_of(*config.open_source(), config.model, config.data.context);
  if (!truth) return;
  row["truth"] = {{"entropy_rate", truth->entropy_rate},
                  {"bayes_loss", truth->bayes_loss},
                  {"bayes_loss_error", truth->bayes_loss_error},
                  {"derivation", truth->derivation}};
  if (truth->chance_accuracy) row["truth"]["chance_accuracy"] = *truth->chance_accuracy;
  if (truth->bayes_accuracy) row["truth"]["bayes_accuracy"] = *truth->bayes_accuracy;
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
  const auto [tokens, flops] = work_of(config, cost, outcome.steps);
  Json row = {{"schema", "attnscale.result/1"}, {"id", config.id()}, {"status", outcome.status}};
  row["variant"] = label_of(config.attention);
  if (outcome.status == "done") {
    add_losses(row, outcome.evaluations);
    row["flags"] = run_flags(outcome.evaluations, config.open_source()->vocab_size());
  }
  if (outcome.diverged_at) row["diverged_at"] = *outcome.diverged_at;
  if (!outcome.message.empty()) row["message"] = outcome.message;
  if (!outcome.stopped.is_null()) {
    row["stopped"] = outcome.stopped;
    row["message"] = row["stopped"]["message"];
    row["stopped"].erase("message");
  }
  if (!outcome.last_checkpoint.empty()) row["last_checkpoint"] = outcome.last_checkpoint;
  if (outcome.skipped_steps > 0) row["skipped_steps"] = outcome.skipped_steps;
  if (outcome.roll_backs > 0) row["roll_backs"] = outcome.roll_backs;
  if (!outcome.looks.empty()) row["watch"] = watch_columns(outcome.looks);
  if (config.train.watch_every > 0 || outcome.diverged_at)
    row["alarms"] = alarms_of(outcome.looks, outcome.diverged_at, outcome.message);
  add_truth(row, config);
  row["steps"] = outcome.steps;
  row["params"] = cost.parameters.total;
  row["parameters"] = cost.parameters.to_json();
  if (cost.state_bytes) row["state_bytes"] = *cost.state_bytes;
  row["tokens"] = tokens;
  row["flops"] = flops.executed;
  row["flops_ledger"] = flops.to_json();
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
  row["provenance"]["device"] = config.train.device;
  if (!outcome.notes.empty()) row["provenance"]["notes"] = outcome.notes;
  return row;
}

namespace {

std::string hash_of(Json row) {
  row["provenance"].erase("sha256");
  return sha256(canonical(row));
}

}  // namespace

void seal(Json& row) { row["provenance"]["sha256"] = hash_of(row); }

bool decides(const Json& row) {
  const auto& status = row.at("status");
  return status == "done" || status == "diverged" || status == "stopped";
}

bool decides(const Json& row, const Json& rule) {
  return decides(row) && (row["status"] != "stopped" || row.at("stopped").at("rule") == rule);
}

namespace {

/// @throws DataError if the row has a seal that does not hold
void check_seal(const Json& row, const std::filesystem::path& file) {
  const auto provenance = row.find("provenance");
  if (provenance == row.end() || !provenance->is_object() || !provenance->contains("sha256")) return;
  if ((*provenance)["sha256"] != hash_of(row))
    throw DataError(fmt::format("{}: its SHA-256 does not hold; the file is damaged, or was edited", file.string()));
}

/// What stands at a dotted path, in words.
std::string described_at(const Json& row, const std::string& path) {
  const Json& value = at_path(row, path);
  return value.is_null() ? "nothing" : describe_value(value);
}

}  // namespace

Json read_row(const std::filesystem::path& file) {
  const auto document = read_json(file);
  const Json& row = document.value;
  const auto expect = [&](const std::string& field, bool good, const char* expected) {
    if (good) return;
    throw DataError(fmt::format("{}: {}: received {}, expected {}", document.place(field),
                                field.empty() ? "(top level)" : field,
                                field.empty() ? describe_value(row) : described_at(row, field), expected));
  };
  const auto has = [&](const char* field, auto is) { return row.contains(field) && (row[field].*is)(); };
  expect("", row.is_object(), "a row of results");
  for (const auto* field : {"id", "status"}) expect(field, has(field, &Json::is_string), "a text");
  if (!decides(row)) {
    check_seal(row, file);
    return row;
  }
  for (const auto* field : {"steps", "params", "tokens", "seed"})
    expect(field, has(field, &Json::is_number_integer), "a whole number");
  expect("flops", has("flops", &Json::is_number), "a number");
  for (const auto* field : {"config", "provenance"}) expect(field, has(field, &Json::is_object), "an object");
  const auto is_text = [](const Json& flag) { return flag.is_string(); };
  if (row.contains("flags"))
    expect("flags", row["flags"].is_array() && std::all_of(row["flags"].begin(), row["flags"].end(), is_text),
           "a list of texts");
  if (row["status"] == "stopped") {
    expect("stopped", has("stopped", &Json::is_object), "an object");
    const Json& stopped = row["stopped"];
    for (const auto* field : {"step", "loss"})
      expect("stopped." + std::string(field), stopped.contains(field) && stopped[field].is_number(), "a number");
    expect("stopped.rule", stopped.contains("rule") && stopped["rule"].is_object(), "an object");
  }
  if (row["status"] == "done")
    for (const auto* field : {"loss", "best_loss"}) expect(field, has(field, &Json::is_number), "a number");
  check_seal(row, file);
  return row;
}

}  // namespace attnscale

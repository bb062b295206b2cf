#include "sweep/stopping_ledger.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include <fmt/format.h>

#include "core/files.h"
#include "core/hash.h"
#include "core/lease.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

constexpr const char* ledger_schema = "attnscale.stopping/1";
constexpr const char* ledger_name = "decisions.json";

std::string hash_of_ledger(Json ledger) {
  ledger.erase("sha256");
  return sha256(canonical(ledger));
}

/// What a decision must follow from, for it to be decided again: its own evaluations as far as the rule sees them.
bool follows(const StoppingRule& rule, const std::vector<Json>& earlier, const Json& decision) {
  const auto step = decision.at("step").get<int64_t>();
  const bool last = decision.contains("ended");
  std::vector<Json> evaluations = {{{"step", step}, {"loss", decision.at(rule.rule == "asha" ? "loss" : "best")}}};
  auto again = decide_stopping(rule, earlier, decision.at("run"), step, last ? step : step + 1, evaluations);
  if (rule.rule == "median") again["mean"] = decision.at("mean");
  return again == decision;
}

class LedgerReferee : public Referee {
 public:
  LedgerReferee(const Json& request, std::string run, int64_t steps, double lease_seconds)
      : folder_(request.at("folder").get<std::string>()),
        group_(request.at("group")),
        run_(std::move(run)),
        steps_(steps),
        lease_seconds_(lease_seconds) {
    std::vector<Problem> problems;
    rule_ = StoppingRule::from_json(request.at("rule"), problems);
    if (!problems.empty()) throw DataError(problems.front().path + ": " + problems.front().message);
    rule_json_ = rule_.to_json();
  }

  const Json& rule() const override { return rule_json_; }
  bool looks_at(int64_t step) const override { return rule_.records_at(step, steps_); }

  Json decide(int64_t step, const std::vector<Json>& evaluations) override {
    const auto decision = decided(step, evaluations);
    if (decision.at("goes_on").get<bool>()) return nullptr;
    Json stopped = {{"step", step}, {"loss", evaluations.back().at("loss")}, {"rung", rung_of(step)}};
    for (const auto& [key, value] : decision.items())
      if (key != "run" && key != "goes_on" && key != "mean") stopped[key] = value;
    stopped["group"] = group_;
    stopped["rule"] = rule_json_;
    stopped["message"] = reason_of(rule_, decision);
    return stopped;
  }

 private:
  size_t rung_of(int64_t step) const {
    const auto looks = rule_.looks(steps_);
    return static_cast<size_t>(std::find(looks.begin(), looks.end(), step) - looks.begin()) + 1;
  }

  /// The decision that stands in the ledger, or one that is put there.
  Json decided(int64_t step, const std::vector<Json>& evaluations) const {
    make_folder(folder_);
    while (true) {
      const auto lease = wait_for_lease(folder_, lease_seconds_);
      auto ledger = StoppingLedger{rule_, group_, {}};
      if (const auto file = folder_ / ledger_name; fs::exists(file)) ledger = StoppingLedger::read(file);
      for (const auto& decision : ledger.decisions)
        if (decision.at("run") == run_ && decision.at("step") == step) return decision;
      auto decision = decide_stopping(rule_, ledger.decisions, run_, step, steps_, evaluations);
      ledger.decisions.push_back(decision);
      try {
        write_file_through(lease->stage(), folder_ / ledger_name, ledger.to_json().dump(1) + "\n");
        return decision;
      } catch (const LeaseLost&) {  // slept too long; others may have come meanwhile
      }
    }
  }

  fs::path folder_;
  std::string group_, run_;
  int64_t steps_;
  double lease_seconds_;
  StoppingRule rule_;
  Json rule_json_;
};

}  // namespace

Json StoppingLedger::to_json() const {
  Json json = {{"schema", ledger_schema}, {"group", group}, {"rule", rule.to_json()}, {"decisions", decisions}};
  json["sha256"] = hash_of_ledger(json);
  return json;
}

StoppingLedger StoppingLedger::read(const fs::path& file) {
  const auto refuse = [&](const std::string& what) -> DataError {
    return DataError(
        fmt::format("{}: {}; remove it, and runs that come to it from now on are decided anew", file.string(), what));
  };
  StoppingLedger ledger;
  try {
    const auto json = read_json(file).value;
    if (!json.is_object() || json.value("schema", "") != ledger_schema)
      throw refuse(fmt::format("schema is not {}", ledger_schema));
    if (json.value("sha256", "") != hash_of_ledger(json))
      throw refuse("its SHA-256 does not hold; the file is damaged, or was edited");
    std::vector<Problem> problems;
    ledger.rule = StoppingRule::from_json(json.at("rule"), problems);
    if (!problems.empty()) throw refuse(problems.front().path + ": " + problems.front().message);
    ledger.group = json.at("group");
    for (const auto& decision : json.at("decisions")) {
      if (!follows(ledger.rule, ledger.decisions, decision))
        throw refuse(fmt::format("decision {} does not follow from those before it", ledger.decisions.size() + 1));
      ledger.decisions.push_back(decision);
    }
  } catch (const nlohmann::json::exception& error) {
    throw refuse(error.what());
  }
  return ledger;
}

Json stopping_request(const Json& rule, const std::string& group, const fs::path& sweep_folder) {
  if (rule.is_null()) return nullptr;
  return {{"rule", rule}, {"group", group}, {"folder", (sweep_folder / "stopping" / group).string()}};
}

std::unique_ptr<Referee> referee_for(const Json& request, const std::string& run, int64_t steps, double lease_seconds) {
  if (request.is_null()) return nullptr;
  return std::make_unique<LedgerReferee>(request, run, steps, lease_seconds);
}

}  // namespace attnscale

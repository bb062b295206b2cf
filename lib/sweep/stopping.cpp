#include "sweep/stopping.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/hash.h"
#include "core/json_paths.h"
#include "core/options.h"

namespace attnscale {
namespace {

bool is_asha(const StoppingRule& rule) { return rule.rule == "asha"; }
bool is_median(const StoppingRule& rule) { return rule.rule == "median"; }

const Fields& stopping_fields() {
  static const Fields list = {
      field(&StoppingRule::rule, "rule", "asynchronous successive halving, or median stopping")
          .one_of({"asha", "median"}),
      field(&StoppingRule::first, "first", "where runs are compared first: a multiple of `train.eval_every`")
          .at_least(1)
          .in("steps"),
      field(&StoppingRule::reduction, "reduction",
            "of the runs that come to a rung one in so many goes on, and the next rung is so many times as far")
          .between(2, 1 << 20)
          .only_with("rule asha", is_asha),
      field(&StoppingRule::every, "every", "from one comparison to the next; `first` if left out")
          .at_least(1)
          .in("steps")
          .only_with("rule median", is_median),
      field(&StoppingRule::least, "least", "runs that must have ended before one is compared with them")
          .at_least(1)
          .only_with("rule median", is_median),
  };
  return list;
}

/// Why runs that differ in a path cannot be compared on the way; empty if they can.
std::string unfair(const std::string& path) {
  static const std::set<std::string> other_lengths = {"train.steps", "train.batch_size", "train.initial_batch_size",
                                                      "train.initial_context", "train.ramp_fraction"};
  if (path == "train.seed")
    return "runs with different seeds do not compete: the worse one has less luck, not less skill";
  if (other_lengths.contains(path))
    return "runs that have seen other numbers of tokens, or have other lengths, do not compete";
  if (path == "data" || path.starts_with("data.") || path.starts_with("train.eval_"))
    return "losses on other data, or measured another way, cannot be compared";
  if (path == "attention" || path.starts_with("attention.") || path.starts_with("model.") || path.starts_with("train."))
    return "";
  return "expected a config path such as \"train.learning_rate\"";
}

void read_by(const Json& by, StoppingRule& rule, std::vector<Problem>& problems) {
  if (!by.is_array() || by.empty()) {
    problems.push_back({"stopping.by", fmt::format("received {}, expected a list of config paths in which competing "
                                                   "runs may differ, such as [\"train.learning_rate\"]",
                                                   describe_value(by))});
    return;
  }
  rule.by.clear();
  for (size_t i = 0; i < by.size(); ++i) {
    const auto place = fmt::format("stopping.by[{}]", i);
    if (!by[i].is_string()) {
      problems.push_back({place, fmt::format("received {}, expected a config path", describe_value(by[i]))});
      continue;
    }
    rule.by.push_back(by[i].get<std::string>());
    if (auto why = unfair(rule.by.back()); !why.empty()) problems.push_back({place, std::move(why)});
  }
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

Json decide_asha(const StoppingRule& rule, const std::vector<Json>& earlier, const Json& evaluation, Json decision) {
  const double loss = evaluation.at("loss");
  int64_t rank = 1, of = 1;
  for (const auto& other : earlier) {
    if (other.at("step") != decision.at("step")) continue;
    ++of;
    if (other.at("loss").get<double>() <= loss) ++rank;
  }
  decision["loss"] = loss;
  decision["rank"] = rank;
  decision["of"] = of;
  decision["goes_on"] = of < rule.reduction || rank <= of / rule.reduction;
  return decision;
}

/// Mean losses up to a step of the runs that have ended and were looked at there.
std::vector<double> means_of_ended(const std::vector<Json>& earlier, int64_t step) {
  std::set<std::string> ended;
  for (const auto& other : earlier)
    if (!other.at("goes_on").get<bool>() || other.contains("ended")) ended.insert(other.at("run").get<std::string>());
  std::vector<double> means;
  for (const auto& other : earlier)
    if (other.at("step") == step && ended.contains(other.at("run").get<std::string>()))
      means.push_back(other.at("mean").get<double>());
  return means;
}

Json decide_median(const StoppingRule& rule, const std::vector<Json>& earlier, const std::vector<Json>& evaluations,
                   bool last, Json decision) {
  double best = evaluations.front().at("loss"), sum = 0;
  for (const auto& evaluation : evaluations) {
    best = std::min(best, evaluation.at("loss").get<double>());
    sum += evaluation.at("loss").get<double>();
  }
  decision["best"] = best;
  decision["mean"] = sum / static_cast<double>(evaluations.size());
  decision["goes_on"] = true;
  if (last) {
    decision["ended"] = true;
    return decision;
  }
  const auto means = means_of_ended(earlier, decision.at("step").get<int64_t>());
  decision["of"] = means.size();
  if (static_cast<int64_t>(means.size()) < rule.least) return decision;
  decision["median"] = median_of(means);
  decision["goes_on"] = best <= decision["median"].get<double>();
  return decision;
}

}  // namespace

StoppingRule StoppingRule::from_json(const Json& json, std::vector<Problem>& problems) {
  StoppingRule rule;
  if (!json.is_object()) {
    problems.push_back(
        {"stopping", fmt::format("received {}, expected an object such as {{\"rule\": \"asha\", \"first\": "
                                 "100, \"reduction\": 3, \"by\": [\"train.learning_rate\"]}}",
                                 describe_value(json))});
    return rule;
  }
  Json own = json;
  own.erase("by");
  read_fields(own, "stopping", stopping_fields(), &rule, problems);
  for (const auto* key : {"rule", "first"})
    if (!json.contains(key)) problems.push_back({"stopping", fmt::format("\"{}\" is missing", key)});
  if (json.contains("by")) read_by(json["by"], rule, problems);
  if (is_median(rule) && !rule.every) rule.every = std::max<int64_t>(1, rule.first);
  return rule;
}

Json StoppingRule::to_json() const {
  Json json = write_fields(stopping_fields(), this);
  json["by"] = by;
  return json;
}

Json StoppingRule::schema() {
  Json schema = schema_of(stopping_fields());
  schema["description"] = "ends runs early that do worse than others of their group";
  schema["properties"]["by"] = {{"type", "array"},
                                {"minItems", 1},
                                {"items", {{"type", "string"}, {"pattern", "^(model|attention|train)(\\.|$)"}}},
                                {"default", StoppingRule().by},
                                {"description", "config paths in which runs that compete may differ"}};
  schema["required"] = {"rule", "first"};
  return schema;
}

std::string StoppingRule::options_table() { return table_of(stopping_fields()); }

std::vector<int64_t> StoppingRule::looks(int64_t steps) const {
  std::vector<int64_t> list;
  if (first < 1) return list;
  for (int64_t step = first; step < steps; step = is_asha(*this) ? step * reduction : step + every.value_or(first)) {
    list.push_back(step);
    if (is_asha(*this) && step > steps / reduction) break;  // before it overflows
  }
  return list;
}

bool StoppingRule::records_at(int64_t step, int64_t steps) const {
  if (step == steps) return is_median(*this);
  const auto list = looks(steps);
  return std::find(list.begin(), list.end(), step) != list.end();
}

std::string stopping_group(const StoppingRule& rule, Json config) {
  for (const auto& path : rule.by) erase_path(config, path);
  erase_path(config, "train.device");  // where a run takes place is not what it is
  return sha256(canonical(Json{rule.to_json(), config})).substr(0, 16);
}

size_t least_that_go_on(const StoppingRule& rule, size_t count) {
  // With asha as many as come before there are `reduction`, if the best come first.
  const auto free = static_cast<size_t>(is_asha(rule) ? rule.reduction - 1 : rule.least);
  return std::min(count, free);
}

Json decide_stopping(const StoppingRule& rule, const std::vector<Json>& earlier, const std::string& run, int64_t step,
                     int64_t steps, const std::vector<Json>& evaluations) {
  const Json decision = {{"run", run}, {"step", step}};
  return is_asha(rule) ? decide_asha(rule, earlier, evaluations.back(), decision)
                       : decide_median(rule, earlier, evaluations, step == steps, decision);
}

std::string reason_of(const StoppingRule& rule, const Json& decision) {
  if (is_asha(rule))
    return fmt::format("rank {} of {} at step {}, where the best {} go on", decision.at("rank").get<int64_t>(),
                       decision.at("of").get<int64_t>(), decision.at("step").get<int64_t>(),
                       decision.at("of").get<int64_t>() / rule.reduction);
  return fmt::format("best loss {:.4f} at step {}, worse than the median {:.4f} of {} runs",
                     decision.at("best").get<double>(), decision.at("step").get<int64_t>(),
                     decision.at("median").get<double>(), decision.at("of").get<int64_t>());
}

}  // namespace attnscale

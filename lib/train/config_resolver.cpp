#include "train/config_resolver.h"

#include <map>
#include <stdexcept>

#include <fmt/format.h>

#include "model/attention_choice.h"
#include "train/config_checks.h"

namespace attnscale {

/// Model, attention and data, settled; and what was worked out from them.
struct ConfigResolver::Shape {
  RunConfig config;
  SourceFacts facts;
  std::string attention, data, model, fingerprint;           ///< canonical
  std::map<std::pair<int64_t, bool>, ModelCost> costs = {};  ///< by rows of a pass, activation checkpointing
};

struct ConfigResolver::Training {
  TrainOptions options;
  std::string text;  ///< canonical
};

ConfigResolver::ConfigResolver() = default;
ConfigResolver::~ConfigResolver() = default;

ConfigResolver::Shape* ConfigResolver::shape_of(const Json& json) {
  std::string key;
  for (const auto* name : {"model", "attention", "data"}) {
    if (const auto section = json.find(name); section != json.end()) key += section->dump();
    key += '\n';
  }
  if (const auto known = shapes_.find(key); known != shapes_.end()) return known->second.get();
  RunConfig config;
  std::vector<Problem> found;
  read_shape(json, config, found);
  if (!found.empty()) return nullptr;
  const auto facts = settle_shape(config, found);
  if (!found.empty() || !check_vocabulary(config, facts, found)) return nullptr;
  const auto fingerprint = config.open_source()->fingerprint();
  if (shapes_.size() == most_kept) shapes_.clear();
  auto shape = std::make_unique<Shape>(Shape{config, facts, canonical(write_attention(config.attention)),
                                             identity_of_data(data_section(config.data), fingerprint),
                                             canonical(model_section(config)), canonical(fingerprint)});
  return (shapes_[key] = std::move(shape)).get();
}

const ConfigResolver::Training* ConfigResolver::training_of(const Json& json, int64_t context) {
  const auto section = section_of(json, "train");
  auto key = fmt::format("{} {}", context, section.dump());
  if (const auto known = trainings_.find(key); known != trainings_.end()) return known->second.get();
  TrainOptions options{.context = context};
  std::vector<Problem> found;
  read_options(section, "train", options, found);
  if (!found.empty()) return nullptr;
  options = resolved(options);
  if (trainings_.size() == most_kept) trainings_.clear();
  auto training = std::make_unique<Training>(Training{options, identity_of_training(write_options(options))});
  return (trainings_[std::move(key)] = std::move(training)).get();
}

std::optional<ResolvedRun> ConfigResolver::resolve(const Json& json, std::vector<Problem>& problems) {
  const size_t before = problems.size();
  if (json.is_object()) check_sections(json, problems);
  auto* shape = json.is_object() && problems.size() == before ? shape_of(json) : nullptr;
  const auto* training = shape ? training_of(json, shape->config.data.context) : nullptr;
  if (!training) {  // something is wrong, and all that is wrong is said together
    problems.resize(before);
    const auto config = RunConfig::from_json(json, problems);
    if (problems.size() == before) throw std::logic_error("a config is refused, and then it is not: " + json.dump());
    return std::nullopt;
  }
  ResolvedRun run{shape->config, {}, {}};
  run.config.train = training->options;
  check_training(run.config, problems);
  if (problems.size() != before) return std::nullopt;
  check_validation(run.config, shape->facts, problems);
  check_cut(run.config, shape->facts, problems);
  const std::pair rows{rows_per_pass(run.config.train), run.config.train.activation_checkpointing};
  auto cost = shape->costs.find(rows);
  if (cost == shape->costs.end()) cost = shape->costs.emplace(rows, cost_of(run.config)).first;
  check_memory(run.config, cost->second, problems);
  if (problems.size() == before) check_longer_windows(run.config, problems);
  if (problems.size() == before) check_float32_parts(run.config, problems);
  if (problems.size() != before) return std::nullopt;
  run.cost = cost->second;
  run.id = run_id(shape->attention, shape->data, shape->model, training->text, shape->fingerprint);
  return run;
}

}  // namespace attnscale

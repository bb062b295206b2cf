#include "train/config_resolver.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <tuple>

#include <fmt/format.h>

#include "core/hash.h"
#include "model/attention_choice.h"
#include "train/config_checks.h"

namespace attnscale {
namespace {

/// Bytes that are equal where the values are, quicker to make than a text.
void add_content(const Json& value, std::string& key) { Json::to_cbor(value, key); }

const Field& seed_field() {
  static const Field& seed =
      *std::ranges::find_if(TrainOptions::fields(), [](const Field& field) { return field.name == "seed"; });
  return seed;
}

/// Makes room for one more.
template <class Kept>
void keep_bounded(Kept& kept, size_t most) {
  if (kept.size() >= most) kept.clear();
}

}  // namespace

RunConfig ResolvedRun::config() const {
  auto config = *shape;
  config.train = train;
  return config;
}

struct ConfigResolver::Data {
  SourceFacts facts;
  std::string identity, fingerprint;  ///< canonical
};

/// Model, attention and data, settled; and what was worked out from them.
struct ConfigResolver::Shape {
  std::shared_ptr<const RunConfig> config;
  const SourceFacts facts;
  Sha256Begun id;  ///< up to the training's options
  std::string fingerprint;
  std::map<std::tuple<int64_t, bool, std::string>, ModelCost> costs =
      {};  ///< by rows of a pass, activation checkpointing, dtype
};

struct ConfigResolver::Training {
  TrainOptions options;                  ///< seed 0
  std::string before_seed, behind_seed;  ///< canonical
};

ConfigResolver::ConfigResolver() = default;
ConfigResolver::~ConfigResolver() = default;

const ConfigResolver::Data& ConfigResolver::data_of(const DataChoice& choice) {
  std::string key = choice.source;
  add_content({choice.context, choice.options}, key);
  if (const auto known = data_.find(key); known != data_.end()) return *known->second;
  const auto facts = facts_of(choice);
  const auto fingerprint = open_source(choice)->fingerprint();
  keep_bounded(data_, most_kept);
  auto data =
      std::make_unique<Data>(Data{facts, identity_of_data(data_section(choice), fingerprint), canonical(fingerprint)});
  return *(data_[std::move(key)] = std::move(data));
}

ConfigResolver::Shape* ConfigResolver::shape_of(const Json& json) {
  std::string key;
  for (const auto* name : {"model", "attention", "data"})
    if (const auto section = json.find(name); section != json.end()) {
      key += name;
      add_content(*section, key);
    }
  if (const auto known = shapes_.find(key); known != shapes_.end()) return known->second.get();
  RunConfig config;
  std::vector<Problem> found;
  read_shape(json, config, found);
  if (!found.empty()) return nullptr;
  const auto facts = settle_shape(config, found, [this](const DataChoice& choice) { return data_of(choice).facts; });
  if (!found.empty() || !check_vocabulary(config, facts, found)) return nullptr;
  const auto& data = data_of(config.data);
  const auto beginning =
      run_id_beginning(canonical(write_attention(config.attention)), data.identity, canonical(model_section(config)));
  keep_bounded(shapes_, most_kept);
  settled_shape_ = nullptr;
  auto shape = std::make_unique<Shape>(
      Shape{std::make_shared<const RunConfig>(std::move(config)), facts, Sha256Begun(beginning), data.fingerprint});
  return (shapes_[std::move(key)] = std::move(shape)).get();
}

const ConfigResolver::Training* ConfigResolver::training_of(const Json& section, int64_t context) {
  std::string key = fmt::format("{} ", context);
  for (const auto& [name, value] : section.get_ref<const Json::object_t&>()) {
    if (name == "seed") continue;
    key.append(1, static_cast<char>(std::min<size_t>(name.size(), 255))).append(name);
    add_content(value, key);
  }
  if (const auto known = trainings_.find(key); known != trainings_.end()) return known->second.get();
  TrainOptions options{.context = context};
  std::vector<Problem> found;
  read_options(section, "train", options, found);
  if (!found.empty()) return nullptr;
  options.seed = 0;
  options = resolved(options);
  const auto text = identity_of_training(write_options(options));
  const std::string seed = R"("seed":)";  // within a text its quotes would be escaped
  const auto field = text.find(seed + "0");
  if (field == std::string::npos) throw std::logic_error("a training without a seed: " + text);
  const auto at = field + seed.size();
  keep_bounded(trainings_, most_kept);
  settled_training_ = nullptr;
  auto training = std::make_unique<Training>(Training{options, text.substr(0, at), text.substr(at + 1)});
  return (trainings_[std::move(key)] = std::move(training)).get();
}

/// Checks a shape with a training, and makes `settled_` what all their seeds have in common.
bool ConfigResolver::settle(Shape& shape, const Training& training, std::vector<Problem>& problems) {
  if (settled_shape_ == &shape && settled_training_ == &training) return true;
  if (settled_.shape != shape.config) checked_ = *shape.config;
  settled_shape_ = nullptr;
  settled_.shape = shape.config;
  settled_.train = checked_.train = training.options;
  const size_t before = problems.size();
  check_training(checked_, problems);
  if (problems.size() != before) return false;
  check_validation(checked_, shape.facts, problems);
  check_cut(checked_, shape.facts, problems);
  const std::tuple rows{rows_per_pass(checked_.train), checked_.train.activation_checkpointing, checked_.train.dtype};
  auto cost = shape.costs.find(rows);
  if (cost == shape.costs.end()) cost = shape.costs.emplace(rows, cost_of(checked_)).first;
  check_memory(checked_, cost->second, problems);
  if (problems.size() == before) check_longer_windows(checked_, problems);
  if (problems.size() == before) check_float32_parts(checked_, problems);
  if (problems.size() != before) return false;
  settled_.cost = cost->second;
  settled_.work = work_of(checked_, cost->second, checked_.train.steps);
  settled_.peak_bytes = training_bytes(checked_.train, cost->second);
  settled_shape_ = &shape;
  settled_training_ = &training;
  return true;
}

std::optional<ResolvedRun> ConfigResolver::resolve(const Json& json, std::vector<Problem>& problems) {
  static const Json empty = Json::object();
  const size_t before = problems.size();
  if (json.is_object()) check_sections(json, problems);
  auto* shape = json.is_object() && problems.size() == before ? shape_of(json) : nullptr;
  const Training* training = nullptr;
  int64_t seed = seed_field().default_value.get<int64_t>();
  if (shape) {
    const auto given = json.find("train");
    const Json& section = given == json.end() ? empty : *given;
    const auto own = section.is_object() ? section.find("seed") : section.end();
    const bool seeded = section.is_object() && own != section.end();
    const bool right = section.is_object() && (!seeded || seed_field().problem_with(*own).empty());
    if (right) training = training_of(section, shape->config->data.context);
    if (right && seeded) seed = own->get<int64_t>();
  }
  if (!training) {  // something is wrong, and all that is wrong is said together
    problems.resize(before);
    const auto config = RunConfig::from_json(json, problems);
    if (problems.size() == before) throw std::logic_error("a config is refused, and then it is not: " + json.dump());
    return std::nullopt;
  }
  if (!settle(*shape, *training, problems)) return std::nullopt;
  ResolvedRun run = settled_;
  run.train.seed = seed;
  run.id = shape->id.with(
      {training->before_seed, fmt::format_int(seed).c_str(), training->behind_seed, "}", shape->fingerprint});
  run.id.resize(16);
  return run;
}

}  // namespace attnscale

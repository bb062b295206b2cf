#include "train/run_config.h"

#include <mutex>

#include <fmt/format.h>

#include "core/hash.h"
#include "data/registry.h"
#include "model/attention_choice.h"
#include "train/config_checks.h"
#include "train/optimizer.h"
#include "train/run_kernels.h"

namespace attnscale {

double training_bytes(const TrainOptions& train, const ModelCost& cost) {
  if (train.device != "cpu") return 0;
  // The model's cost counts two numbers of the optimiser for each parameter, as AdamW keeps.
  // A look holds the weights as they were, and the gradients of a pass apart from the others'.
  const int64_t copies_for_a_look = train.watch_every == 0 ? 0 : train.accumulate > 1 ? 2 : 1;
  const int64_t more = state_numbers(train) - 2 + (train.ema_decay > 0 ? 1 : 0) + copies_for_a_look;
  const auto bytes = static_cast<double>(cost.training_bytes + 4 * more * cost.parameters.total);
  return bytes * (train.dtype == "float64" ? 2 : 1);
}

ModelCost cost_of(const RunConfig& config) {
  return model_cost(config.model, config.attention, config.data.context, rows_per_pass(config.train),
                    config.train.activation_checkpointing, products_of(config.train.dtype));
}

RunConfig RunConfig::from_json(const Json& json, std::vector<Problem>& problems) {
  RunConfig config;
  if (!json.is_object()) {
    problems.push_back({"", fmt::format("received {}, expected an object with model, attention, data and train",
                                        describe_value(json))});
    return config;
  }
  const size_t before = problems.size();
  const auto clean = [&] { return problems.size() == before; };
  check_sections(json, problems);
  read_shape(json, config, problems);
  config.train.context = config.data.context;
  read_options(section_of(json, "train"), "train", config.train, problems);
  config.train = resolved(config.train);
  check_training(config, problems);
  if (!clean()) return config;
  const auto facts = settle_shape(config, problems);
  if (!clean()) return config;
  check_validation(config, facts, problems);
  check_cut(config, facts, problems);
  if (check_vocabulary(config, facts, problems)) check_memory(config, cost_of(config), problems);
  if (clean()) check_longer_windows(config, problems);
  if (clean()) check_float32_parts(config, problems);
  return config;
}

Json RunConfig::to_json() const {
  return {{"model", model_section(*this)},
          {"attention", write_attention(attention)},
          {"data", data_section(data)},
          {"train", write_options(train)}};
}

std::shared_ptr<const Source> open_source(const DataChoice& data) {
  constexpr size_t max_open_sources = 16;
  static std::mutex mutex;
  static std::vector<std::pair<std::string, std::shared_ptr<const Source>>> open;  // oldest first
  const auto key = data.source + canonical(data.options);
  const std::lock_guard guard(mutex);
  for (const auto& [known, source] : open)
    if (known == key) return source;
  auto source = source_named(data.source).make(data.options);
  if (open.size() == max_open_sources) open.erase(open.begin());
  open.emplace_back(key, source);
  return source;
}

std::shared_ptr<const Source> RunConfig::open_source() const { return attnscale::open_source(data); }

std::string RunConfig::id() const { return run_id(to_json(), open_source()->fingerprint()); }

std::string run_id_beginning(const std::string& attention, const std::string& data, const std::string& model) {
  return fmt::format(R"({{"attention":{},"data":{},"model":{},"train":)", attention, data, model);
}

std::string identity_of_data(Json data, const Json& fingerprint) {
  if (fingerprint.contains("sha256")) data.erase("path");
  return canonical(data);
}

std::string identity_of_training(Json train) {
  for (const auto* where : where_it_trains) train.erase(where);
  return canonical(train);
}

std::string run_id(Json identity, const Json& fingerprint) {
  for (const auto* where : where_it_trains) identity["train"].erase(where);
  if (fingerprint.contains("sha256")) identity["data"].erase("path");
  return sha256(canonical(identity) + canonical(fingerprint)).substr(0, 16);
}

}  // namespace attnscale

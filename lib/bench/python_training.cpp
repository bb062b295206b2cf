#include "bench/python_training.h"

#include <algorithm>

#include <fmt/format.h>

#include "bench/peer_script.h"
#include "bench/peer_source.h"
#include "core/error.h"
#include "core/nearest.h"

namespace attnscale {
namespace {

/// Sizes that the PyTorch script takes; everything else of `model` and `attention` must be as it stands there.
constexpr const char* sizes_of_script[] = {"depth", "model_dim", "num_heads", "bias"};

/// What the script needs to know.
Json description_of(const RunConfig& config, const PythonWork& work) {
  check_script_has_twin(config);
  for (const auto& mode : work.modes)
    if (std::find(python_modes.begin(), python_modes.end(), mode) == python_modes.end())
      throw ConfigError(fmt::format("unknown mode \"{}\" of PyTorch{}", mode, suggestion(mode, python_modes)));
  const auto& train = config.train;
  return {{"vocab", *config.model.vocab_size},
          {"context", config.data.context},
          {"depth", config.model.depth},
          {"dim", config.model.model_dim},
          {"heads", config.model.num_heads},
          {"bias", config.model.bias},
          {"batch", train.batch_size},
          {"learning_rate", train.learning_rate},
          {"betas", {train.beta1, *train.beta2}},
          {"epsilon", *train.epsilon},
          {"weight_decay", *train.weight_decay},
          {"clip_norm", train.clip_norm},
          {"threads", work.threads},
          {"clock", work.clock},
          {"modes", work.modes},
          {"weights", work.weights.string()},
          {"warmup", work.warmup}};
}

std::map<std::string, std::string> environment_of(const PythonWork& work) {
  if (work.compiled.empty()) return {};
  return {{"TORCHINDUCTOR_CACHE_DIR", work.compiled.string()}};
}

}  // namespace

void check_script_has_twin(const RunConfig& config) {
  const Json whole = config.to_json();
  Json plain = {{"model", Json::object()}, {"attention", {{"variant", "softmax"}}}, {"data", whole["data"]}};
  for (const auto* key : sizes_of_script) plain["model"][key] = whole["model"][key];
  plain["train"] = {{"batch_size", config.train.batch_size}};
  std::vector<Problem> problems;
  const Json twin = RunConfig::from_json(plain, problems).to_json();
  const auto require = [](bool equal, const std::string& path, const Json& value, const Json& expected) {
    if (!equal)
      throw ConfigError(fmt::format("--against python: the PyTorch script has {} {} only, received {}", path,
                                    expected.dump(), value.dump()));
  };
  for (const auto* part : {"model", "attention"}) {
    for (const auto& [key, value] : whole[part].items()) {
      const Json expected = twin[part].contains(key) ? twin[part][key] : Json("nothing");
      require(value == expected, fmt::format("{}.{}", part, key), value, expected);
    }
  }
  require(config.train.schedule != "schedule_free", "train.schedule", config.train.schedule, twin["train"]["schedule"]);
  for (const auto* key :
       {"optimizer", "clip", "accumulate", "label_smoothing", "z_loss", "ema_decay", "decay_embeddings",
        "decay_vectors", "embedding_rate", "vector_rate", "activation_checkpointing", "float32_projections",
        "float32_attention", "float32_feed_forward", "float32_head"}) {
    const Json value = whole["train"].contains(key) ? whole["train"][key] : Json(),
               expected = twin["train"].contains(key) ? twin["train"][key] : Json();
    require(value == expected, fmt::format("train.{}", key), value, expected);
  }
}

PythonTraining::PythonTraining(const RunConfig& config, const PythonWork& work)
    : peer_(work.python, with_common_module(peer_script), work.threads, environment_of(work)),
      about_(peer_.ask(description_of(config, work))) {
  for (const auto& mode : about_["modes"]) modes_.push_back(mode.get<std::string>());
  if (modes_.empty()) throw ConfigError("--against python: no mode works: " + about_["left_out"].dump());
  const auto params = static_cast<int64_t>(cost_of(config).parameters.total), theirs = about_["params"].get<int64_t>();
  if (params != theirs)
    throw ConfigError(fmt::format("--against python: its model has {} parameters, ours {}", theirs, params));
}

double PythonTraining::train(const std::string& mode, int64_t steps) {
  return peer_.ask({{"mode", mode}, {"steps", steps}})["ms"].get<double>();
}

double PythonTraining::train_on(const std::string& mode, const Batch& batch, double learning_rate) {
  if (!batch.asked.empty())
    throw ConfigError("--against python: the PyTorch script counts every target, and this source asks for some only");
  Json rows = Json::array();
  for (int64_t row = 0; row < batch.rows; ++row) {
    const auto first = batch.tokens.begin() + row * (batch.context + 1);
    rows.push_back(std::vector<int64_t>(first, first + batch.context + 1));
  }
  return peer_.ask({{"mode", mode}, {"tokens", std::move(rows)}, {"rate", learning_rate}})["loss"].get<double>();
}

int64_t PythonTraining::peak_memory_bytes() { return peer_.ask({{"end", true}})["peak_memory_bytes"].get<int64_t>(); }

}  // namespace attnscale

#include "train/trained_model.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "attention/registry.h"
#include "core/files.h"
#include "core/hash.h"
#include "data/random.h"
#include "model/attention_choice.h"
#include "tensor/precision.h"
#include "train/checkpoint.h"
#include "train/stepper.h"

// B = 1 throughout; V vocabulary

namespace attnscale {
namespace {

namespace fs = std::filesystem;

/// The run's folder that a user may name in several ways.
fs::path run_folder(const fs::path& path) {
  const auto is_run = [](const fs::path& folder) { return fs::exists(folder / "config.json"); };
  for (auto folder = fs::weakly_canonical(path); folder.has_relative_path(); folder = folder.parent_path())
    if (is_run(folder)) return folder;
  std::vector<std::string> runs;
  if (fs::is_directory(path / "runs"))
    for (const auto& entry : fs::directory_iterator(path / "runs"))
      if (is_run(entry.path())) runs.push_back(entry.path().string());
  if (runs.size() == 1) return runs.front();
  std::sort(runs.begin(), runs.end());
  if (!fs::exists(path)) throw IoError(path.string() + ": no such file or folder; expected a run's");
  if (runs.empty())
    throw DataError(fmt::format("{}: no run is here; name a run's folder, the one with config.json and checkpoint/",
                                path.string()));
  throw DataError(
      fmt::format("{}: holds {} runs; name one of them, such as {}", path.string(), runs.size(), runs.front()));
}

/// Draws from softmax(logits / temperature) among the top_k; in float64 on the CPU, so that a seed gives the same
/// tokens on every machine with the same logits.
/// @param position  that the token will have; each has a stream of its own, so that a text put aside goes on with the
///                  draws that it would have had
int64_t draw_token(const Tensor& logits, const GenerateOptions& options, int64_t position) {
  const auto exact = logits.to(at::kCPU, at::kDouble);  // [V]
  if (options.temperature == 0) return exact.argmax().item<int64_t>();
  const int64_t k = options.top_k > 0 ? std::min<int64_t>(options.top_k, exact.size(0)) : exact.size(0);
  const auto [values, tokens] = exact.topk(k);
  const auto weights = at::softmax(values / options.temperature, 0);
  const Categorical distribution(std::vector(weights.const_data_ptr<double>(), weights.const_data_ptr<double>() + k));
  Random random(stream_seed(options.seed, "generate", static_cast<uint64_t>(position)));
  return tokens[distribution.draw(random)].item<int64_t>();
}

}  // namespace

TrainedModel load_trained_model(const fs::path& path, const std::string& data_path) {
  TrainedModel trained;
  trained.folder = run_folder(path);
  auto config = read_json(trained.folder / "config.json").value;
  if (!data_path.empty()) {
    if (const auto source = config["data"].value("source", ""); source != "text")
      throw DataError(fmt::format("--data {}: the run was trained on {}, which reads no file; leave --data out",
                                  data_path, source));
    config["data"]["path"] = data_path;
  }
  std::vector<Problem> problems;
  trained.config = RunConfig::from_json(config, problems);
  if (!problems.empty()) {
    const auto& [path_in_config, message] = problems.front();
    if (path_in_config.starts_with("data") && !data_path.empty())
      throw DataError(fmt::format("--data {}: {}", data_path, message));
    throw DataError(fmt::format("{}: {}: {}{}", (trained.folder / "config.json").string(), path_in_config, message,
                                path_in_config == "data.path" ? "; --data names where the text lies now" : ""));
  }
  const auto checkpoint = read_checkpoint(trained.folder / "checkpoint");
  if (!checkpoint) throw DataError(fmt::format("{}: has no checkpoint; train the run first", trained.folder.string()));
  const auto where = fmt::format("{}: step {}", (trained.folder / "checkpoint").string(), checkpoint->step);
  if (checkpoint->config_id != trained.config.id())
    throw DataError(
        fmt::format("{}: was trained on other data or by another configuration ({}, not {}); nothing was "
                    "loaded",
                    where, checkpoint->config_id, trained.config.id()));
  trained.step = checkpoint->step;
  trained.source = trained.config.open_source();
  const auto& c = trained.config;
  trained.model = std::make_unique<Transformer>(c.model, c.attention, c.data.context,
                                                stream_seed(static_cast<uint64_t>(c.train.seed), "init"));
  trained.model->to(weight_dtype(c.train.dtype));
  trained.model->keep_float32(float32_parts(c.train));
  check_same_tensors(where, checkpoint->model, tensors_of(*trained.model));
  copy_tensors(checkpoint->model, tensors_of(*trained.model));
  if (!checkpoint->average.empty()) {
    TensorMap weights;
    for (const auto& item : trained.model->named_parameters()) weights[item.key()] = item.value();
    check_same_tensors(where, checkpoint->average, weights);
    copy_tensors(checkpoint->average, weights);
  }
  trained.model->eval();
  return trained;
}

bool decodes(const AttentionChoice& attention) {
  const auto incremental = [](const AttentionChoice& choice) {
    return variant_named(choice.variant).traits.contains(Trait::incremental);
  };
  return attention.layers.empty() ? incremental(attention)
                                  : std::all_of(attention.layers.begin(), attention.layers.end(), incremental);
}

Generated generate(Transformer& model, const AttentionChoice& attention, int64_t context,
                   const std::vector<int64_t>& prompt, const GenerateOptions& options, Continuation* carried) {
  if (const auto& head = model.options().head; head != "next_token")
    throw ConfigError(
        fmt::format("model.head: \"{}\" does not tell the next token, so this model continues no text", head));
  std::vector<int64_t> text = carried ? carried->unread : std::vector<int64_t>();
  text.insert(text.end(), prompt.begin(), prompt.end());
  const int64_t absorbed = carried ? carried->state.length : 0, read = absorbed + std::ssize(text);
  if (text.empty()) throw DataError("the prompt is empty; give at least one token");
  const char* what = carried ? "what was read and the prompt have" : "the prompt has";
  if (read > context)
    throw DataError(fmt::format("{} {} tokens, the model was trained for a context of {}; shorten the prompt", what,
                                read, context));
  if (read + options.count - 1 > context)
    throw DataError(
        fmt::format("{} tokens after {} pass the context of {} that the model was trained for; ask for at "
                    "most {}, or shorten the prompt",
                    options.count, read, context, context - read + 1));
  const torch::NoGradGuard no_gradients;
  Generated generated{.with_state = decodes(attention)};
  const auto as_tensor = [](const std::vector<int64_t>& tokens) { return torch::tensor(tokens).unsqueeze(0); };

  auto state = carried ? std::move(carried->state) : generated.with_state ? model.new_state(1) : ModelState();
  const auto next_logits = [&](const std::vector<int64_t>& fresh) {
    const auto logits = generated.with_state ? model.decode(as_tensor(fresh), state) : model.forward(as_tensor(text));
    return logits[0][-1];  // [V]
  };
  const auto first_logits = [&] {
    try {
      return next_logits(text);
    } catch (const c10::OutOfMemoryError&) {
      throw;
    } catch (const c10::Error& error) {  // two sizes of a damaged file that only the arithmetic sees together
      if (!carried) throw;
      throw DataError(
          fmt::format("the state to go on from does not fit the model: {}", error.what_without_backtrace()));
    }
  };
  auto logits = first_logits();
  const auto begin = std::chrono::steady_clock::now();
  while (true) {
    text.push_back(draw_token(logits, options, absorbed + std::ssize(text)));
    generated.tokens.push_back(text.back());
    if (std::ssize(generated.tokens) == options.count) break;
    logits = next_logits({text.back()});
  }
  generated.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  generated.state_bytes = state.bytes();
  if (carried) *carried = {std::move(state), {text.back()}};
  return generated;
}

}  // namespace attnscale

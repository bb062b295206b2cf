#include "train/config_checks.h"

#include <algorithm>
#include <stdexcept>

#include <ATen/Context.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "attention/registry.h"
#include "core/nearest.h"
#include "data/registry.h"
#include "model/attention_choice.h"
#include "train/captured_step.h"
#include "train/evaluate.h"
#include "train/provenance.h"
#include "train/stepper.h"

namespace attnscale {
namespace {

constexpr const char* config_schema = "attnscale.config/1";
constexpr int64_t max_context = 1 << 20;
constexpr int64_t max_positions_per_step = 1 << 24;

const Field& context_field() {
  static const Field only =
      field(&DataChoice::context, "context", "tokens that the model sees at once").between(1, max_context).in("tokens");
  return only;
}

const SourceInfo* find_source(const Json& section, std::vector<Problem>& problems) {
  const Json name = section.contains("source") ? section["source"] : Json(DataChoice{}.source);
  std::vector<std::string> known;
  for (const auto& source : all_sources()) {
    if (name == source.name) return &source;
    known.push_back(source.name);
  }
  problems.push_back(
      {"data.source", name.is_string() ? fmt::format("unknown source {}{}", name.dump(-1, ' ', true),
                                                     suggestion(name.get<std::string>(), known))
                                       : fmt::format("received {}, expected a source's name in quotes; `attnscale list "
                                                     "sources` prints them",
                                                     describe_value(name))});
  return nullptr;
}

/// Reads `{source, context, and the source's own options beside them}`.
DataChoice read_data(const Json& section, std::vector<Problem>& problems) {
  DataChoice data;
  if (!section.is_object()) {
    problems.push_back({"data", fmt::format("received {}, expected an object such as {{\"source\": \"zipf_memory\"}}",
                                            describe_value(section))});
    return data;
  }
  if (section.contains("context")) {
    if (const auto problem = context_field().problem_with(section["context"]); !problem.empty())
      problems.push_back({"data.context", problem});
    else data.context = section["context"].get<int64_t>();
  }
  const auto* source = find_source(section, problems);
  if (source == nullptr) return data;
  data.source = source->name;

  std::vector<std::string> known = {"source", "context"};
  for (const auto& field : source->fields) known.push_back(field.name);
  Json accepted = Json::object();
  for (const auto& [key, value] : section.items()) {
    if (key == "source" || key == "context") continue;
    const auto field = std::find_if(source->fields.begin(), source->fields.end(),
                                    [name = key](const Field& f) { return f.name == name; });
    const auto path = join_path("data", key);
    if (field == source->fields.end())
      problems.push_back({path, fmt::format("unknown key for {}{}", source->name, suggestion(key, known))});
    else if (const auto problem = field->problem_with(value); !problem.empty()) problems.push_back({path, problem});
    else accepted[key] = value;
  }
  data.options = source->resolve(accepted);
  return data;
}

std::string gigabytes(double bytes) { return fmt::format("{:.1f} GB", bytes / 1e9); }

/// A step that asks the host for nothing. What an attention variant or a position asks for, the third step of the run
/// finds (CapturedStep).
void check_cuda_graph(const RunConfig& config, std::vector<Problem>& problems) {
  if (!config.train.cuda_graph) return;
  for (const auto& [path, message] : captured_step_problems(config.train))
    problems.push_back({join_path("train", path), message});
  if (at::hasCUDA() && !has_device_graphs(at::kCUDA))
    problems.push_back({"train.cuda_graph",
                        "this program was built without the headers of CUDA's runtime, and records no CUDA graphs; "
                        "leave it out, or build with -DATTNSCALE_CUDA_INCLUDE=<folder of cuda_runtime.h>"});
  if (config.model.experts > 1)
    problems.push_back({"model.experts",
                        fmt::format("{} experts get as many positions as choose them, which the host asks for in each "
                                    "step; leave train.cuda_graph out",
                                    config.model.experts)});
  if (config.model.stochastic_depth > 0)
    problems.push_back({"model.stochastic_depth", "draws on the host in each step; leave train.cuda_graph out"});
}

}  // namespace

void check_sections(const Json& json, std::vector<Problem>& problems) {
  const std::vector<std::string> known = {"model", "attention", "data", "train"};
  for (const auto& [key, value] : json.items()) {
    if (key == "$schema") continue;  // an editor's hint; it changes nothing
    if (key == "schema") {
      if (value != config_schema)
        problems.push_back({key, fmt::format("received {}, expected \"{}\"", describe_value(value), config_schema)});
    } else if (std::find(known.begin(), known.end(), key) == known.end()) {
      problems.push_back({key, "unknown key" + suggestion(key, known)});
    }
  }
}

Json section_of(const Json& json, const std::string& name) { return json.contains(name) ? json[name] : Json::object(); }

void check_training(const RunConfig& config, std::vector<Problem>& problems) {
  const auto& train = config.train;
  for (const auto& [path, message] : train_problems(train)) problems.push_back({join_path("train", path), message});
  // Its factors stand for learning rates under optimisers whose step does not depend on the gradient's size.
  const bool scale_free = train.optimizer == "adamw" || train.optimizer == "adam" || train.optimizer == "lion";
  if (config.model.mup_base_dim && !scale_free)
    problems.push_back(
        {"model.mup_base_dim",
         fmt::format("is the maximal update parametrisation for adamw, adam and lion, not for {}; leave it "
                     "out, or set train.optimizer",
                     train.optimizer)});
  else if (config.model.mup_base_dim && train.optimizer == "adam" && *train.weight_decay != 0)
    problems.push_back(
        {"model.mup_base_dim",
         fmt::format("with adam, whose weight_decay {} goes through the moments and would weigh more in a wider model; "
                     "take train.optimizer \"adamw\", or set train.weight_decay to 0",
                     *train.weight_decay)});
  if (train.batch_size > max_positions_per_step / config.data.context)
    problems.push_back(
        {"train.batch_size",
         fmt::format("{} windows of {} tokens are more than the {} tokens a step may hold; take at most {}",
                     train.batch_size, config.data.context, max_positions_per_step,
                     max_positions_per_step / config.data.context)});
  if (const auto first = train.initial_context; first && *first >= config.data.context)
    problems.push_back(
        {"train.initial_context", fmt::format("received {}, expected less than data.context {}; leave it "
                                              "out to have whole windows from the start",
                                              *first, config.data.context)});
  else if (first && config.model.head != "next_token")
    problems.push_back({"train.initial_context",
                        fmt::format("a window cannot be cut for model.head \"{}\", which asks for more than the token "
                                    "after each position; leave it out",
                                    config.model.head)});
  if (train.watch_every > 0 && config.model.head == "encoder_decoder")
    problems.push_back({"train.watch_every",
                        "looks at models of one stack of blocks, which model.head \"encoder_decoder\" is not; leave it "
                        "out"});
  if (train.device == "cuda" && !at::hasCUDA())
    problems.push_back({"train.device",
                        "received \"cuda\", but no CUDA device can be used here: none is there, or this "
                        "LibTorch was built without CUDA; take \"cpu\""});
  check_cuda_graph(config, problems);
}

void check_validation(const RunConfig& config, const SourceFacts& facts, std::vector<Problem>& problems) {
  const int64_t context = config.data.context;
  const auto windows = facts.validation_windows;
  if (!windows || ValidationSet::num_windows(context, config.train.eval_tokens) <= *windows) return;
  problems.push_back(
      {"train.eval_tokens",
       fmt::format(
           "{} tokens are more than the {} windows of {} tokens that the data has to validate; take at most {}, "
           "or leave more to validate (data.train_fraction)",
           config.train.eval_tokens, *windows, context, ValidationSet::most_tokens(context, *windows))});
}

void check_cut(const RunConfig& config, const SourceFacts& facts, std::vector<Problem>& problems) {
  if (!config.train.initial_context || !facts.asks_some) return;
  problems.push_back(
      {"train.initial_context",
       fmt::format("{} asks for tokens at places of its own, which a cut window would lose; leave it out",
                   config.data.source)});
}

void check_float32_parts(const RunConfig& config, std::vector<Problem>& problems) {
  const auto parts = float32_parts(config.train);
  if (!parts.projections && !parts.attention) return;
  std::vector<std::string> names;
  bool projected = false;
  for (int64_t layer = 0; layer < config.model.depth; ++layer) {
    const auto& name = at_layer(config.attention, layer).variant;
    if (!variant_named(name).traits.contains(Trait::owns_projections)) projected = true;
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  }
  if (parts.projections && !projected)
    problems.push_back({"train.float32_projections",
                        fmt::format("{} makes its own projections, which float32_attention means too; leave it out",
                                    fmt::join(names, ", "))});
  const auto products = config.train.dtype == "float16" ? at::kHalf : at::kBFloat16;
  if (parts.attention && !parts.projections &&
      !attention_heeds_float32(config.model, config.attention, config.data.context, products))
    problems.push_back({"train.float32_attention",
                        fmt::format("{} sums in float32 as it is; leave it out, or set train.float32_projections too, "
                                    "so that what it is given stays float32",
                                    fmt::join(names, ", "))});
}

bool check_vocabulary(const RunConfig& config, const SourceFacts& facts, std::vector<Problem>& problems) {
  const bool masks = config.model.head == "masked_token";
  const int64_t least = facts.vocab_size + (masks ? 1 : 0);
  if (*config.model.vocab_size >= least) return true;
  problems.push_back(
      {"model.vocab_size",
       fmt::format("{} is less than the {} tokens of {}{}; leave it out or take at least {}", *config.model.vocab_size,
                   facts.vocab_size, config.data.source, masks ? " and the mask" : "", least)});
  return false;
}

void check_memory(const RunConfig& config, const ModelCost& cost, std::vector<Problem>& problems) {
  const double bytes = training_bytes(config.train, cost);
  static const auto limit = static_cast<double>(memory_limit_bytes());
  if (bytes <= limit && bytes >= 0) return;  // below zero: more than 64 bits can count
  problems.push_back(
      {"model",
       fmt::format("training needs about {} ({} parameters, batch_size {}, context {}), this machine has {} of memory; "
                   "take a smaller model, batch or context, or divide the batch (train.accumulate)",
                   bytes < 0 ? "more than 9e9 GB" : gigabytes(bytes), cost.parameters.total, config.train.batch_size,
                   config.data.context, gigabytes(limit))});
}

void read_shape(const Json& json, RunConfig& config, std::vector<Problem>& problems) {
  auto model_section = section_of(json, "model");
  config.attention = read_attention(section_of(json, "attention"), problems);
  if (model_section.is_object() && model_section.contains("layers")) {
    read_layers(model_section["layers"], json.contains("attention"), config.attention, problems);
    model_section.erase("layers");
  }
  read_options(model_section, "model", config.model, problems);
  config.data = read_data(section_of(json, "data"), problems);
}

SourceFacts facts_of(const DataChoice& data) {
  const auto source = open_source(data);
  // A text too short for the context says so now.
  const bool asks_some = !source->batch(Split::validation, 0, 0, 1, data.context).asked.empty();
  return {source->vocab_size(), source->num_validation_windows(data.context), asks_some};
}

SourceFacts settle_shape(RunConfig& config, std::vector<Problem>& problems,
                         const std::function<SourceFacts(const DataChoice&)>& facts) {
  const size_t before = problems.size();
  const auto& source_info = source_named(config.data.source);
  if (config.model.head == "encoder_decoder") {
    const int64_t length = source_info.input_length(config.data.options, config.data.context);
    if (!config.model.input_length) config.model.input_length = length;
    else if (source_info.has_answers && *config.model.input_length > length)
      problems.push_back(
          {"model.input_length", fmt::format("{} tokens hold answers of {}, which start after {}; take at "
                                             "most {}, or leave it out",
                                             *config.model.input_length, source_info.name, length, length)});
  }
  // Nothing here depends on the vocabulary yet; 2 stands for it until the source is open.
  const auto geometry_problems = model_problems(resolved(config.model, 2), config.attention, config.data.context);
  problems.insert(problems.end(), geometry_problems.begin(), geometry_problems.end());
  for (const auto& reason : source_info.refusals(config.data.options, config.data.context))
    problems.push_back({"data", reason});
  if (std::ranges::find(source_info.heads, config.model.head) == source_info.heads.end())
    problems.push_back({"model.head", fmt::format("\"{}\" cannot be asked of {}, which serves {}", config.model.head,
                                                  source_info.name, fmt::join(source_info.heads, ", "))});
  if (problems.size() != before) return {};
  try {
    auto known = facts(config.data);
    config.model = resolved(config.model, known.vocab_size, config.data.context);
    return known;
  } catch (const Error& error) {
    problems.push_back({config.data.options.contains("path") ? "data.path" : "data", error.what()});
    return {};
  }
}

Json data_section(const DataChoice& data) {
  Json section = {{"source", data.source}, {"context", data.context}};
  for (const auto& [key, value] : data.options.items()) section[key] = value;
  return section;
}

Json model_section(const RunConfig& config) {
  auto section = write_options(config.model);
  if (!config.attention.layers.empty()) section["layers"] = write_layers(config.attention);
  return section;
}

}  // namespace attnscale

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <fmt/format.h>

#include "attention/registry.h"
#include "commands.h"
#include "diagnostics/attention_map.h"
#include "model/attention_choice.h"
#include "train/questions.h"
#include "train/safetensors.h"
#include "train/trained_model.h"

namespace attnscale {
namespace {

struct InspectArguments {
  std::string checkpoint, data_path, maps;
  int64_t windows = 4, length = 128, probes = 1;
  bool json = false;
};

constexpr const char* columns_help =
    R"(Columns, each a mean over queries and windows, of absolute weights brought to a sum of 1 per query:
  entropy    nats; 0: one key, log t: all t keys alike
  of limit   entropy as a share of log t, t the keys that a query sees
  distance   mean number of positions to the keys
  to itself, to first
             share of weight on the query's own position, and on the window's first
  negative   share of weight with a negative sign
  rank       effective rank of the map, exp of the entropy of its singular values
Variants that own their projections show influence (size of the Jacobian) instead of weights.
)";

struct LayerMaps {
  std::string variant;
  Tensor maps;  // [windows, H, T, T]
};

std::vector<LayerMaps> maps_of(TrainedModel& trained, const InspectArguments& arguments) {
  const auto& config = trained.config;
  const int64_t length = std::min(arguments.length, config.data.context);
  const auto batch = trained.source->batch(Split::validation, 0, 0, arguments.windows, config.data.context);
  const auto tokens = questions_of(batch, config.model, 0).inputs.narrow(1, 0, length);  // [R, T]
  std::vector<LayerMaps> layers(static_cast<size_t>(config.model.depth));
  torch::manual_seed(0);  // of the probes
  for (int64_t row = 0; row < arguments.windows; ++row) {
    trained.model->observe(tokens.narrow(0, row, 1), [&](int64_t layer, Attention& attention, const Inputs& inputs) {
      auto& into = layers[static_cast<size_t>(layer)];
      into.variant = at_layer(config.attention, layer).variant;
      const auto map = implied_attention(attention, inputs, arguments.probes).unsqueeze(0);
      into.maps = into.maps.defined() ? at::cat({into.maps, map}) : map;
    });
  }
  return layers;
}

/// Means over windows, by head.
Json statistics_of(const LayerMaps& layer, bool causal) {
  std::vector<AttentionStatistics> all;
  for (const auto& map : layer.maps.unbind(0)) all.push_back(attention_statistics(map, causal));
  const auto mean = [&](std::vector<double> AttentionStatistics::*member) {
    std::vector<double> sums((all.front().*member).size(), 0.0);
    for (const auto& one : all)
      for (size_t head = 0; head < sums.size(); ++head)
        sums[head] += (one.*member)[head] / static_cast<double>(all.size());
    return Json(sums);
  };
  return {{"entropy", mean(&AttentionStatistics::entropy)},
          {"share_of_limit", mean(&AttentionStatistics::share_of_limit)},
          {"distance", mean(&AttentionStatistics::distance)},
          {"to_itself", mean(&AttentionStatistics::to_itself)},
          {"to_first", mean(&AttentionStatistics::to_first)},
          {"negative", mean(&AttentionStatistics::negative)},
          {"rank", mean(&AttentionStatistics::rank)}};
}

void print_table(const Json& document) {
  print(fmt::format("{:>5} {:<20} {:>4} {:>8} {:>9} {:>9} {:>9} {:>8} {:>9} {:>6}\n", "layer", "variant", "head",
                    "entropy", "of limit", "distance", "to itself", "to first", "negative", "rank"));
  for (const auto& layer : document["layers"]) {
    for (size_t head = 0; head < layer["entropy"].size(); ++head) {
      const auto number = [&](const char* key) { return layer[key][head].get<double>(); };
      print(fmt::format("{:>5} {:<20} {:>4} {:>8.3f} {:>9.2f} {:>9.1f} {:>9.2f} {:>8.2f} {:>9.2f} {:>6.1f}\n",
                        layer["layer"].get<int64_t>(), layer["variant"].get<std::string>(), head, number("entropy"),
                        number("share_of_limit"), number("distance"), number("to_itself"), number("to_first"),
                        number("negative"), number("rank")));
    }
  }
}

ExitCode inspect(const InspectArguments& arguments) {
  at::set_num_threads(1);
  auto trained = load_trained_model(arguments.checkpoint, arguments.data_path);
  const auto layers = maps_of(trained, arguments);
  Json document = {{"schema", "attnscale.inspection/1"},
                   {"run", trained.config.id()},
                   {"step", trained.step},
                   {"windows", arguments.windows},
                   {"layers", Json::array()}};
  TensorMap maps;
  for (size_t i = 0; i < layers.size(); ++i) {
    const bool owning = variant_named(layers[i].variant).traits.contains(Trait::owns_projections);
    Json layer = {{"layer", i}, {"variant", layers[i].variant}, {"kind", owning ? "influence" : "weights"}};
    layer.update(statistics_of(layers[i], *trained.config.model.causal));
    document["layers"].push_back(std::move(layer));
    maps[fmt::format("layer.{}", i)] = layers[i].maps;
  }
  if (!arguments.maps.empty()) write_safetensors(arguments.maps, maps, {});
  if (arguments.json) print_json(document);
  else print_table(document);
  return ExitCode::done;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "inspect", "What each head of a trained run attends to, for any variant: entropy, distance, rank, maps");
  auto arguments = std::make_shared<InspectArguments>();
  command->add_option("checkpoint", arguments->checkpoint, "a run's folder, its checkpoint, or a folder with one run")
      ->required();
  command->add_option("--windows", arguments->windows, "validation windows to average over (default 4)")
      ->check(CLI::Range(1, 4096));
  command->add_option("--length", arguments->length, "positions of each window, at most the context (default 128)")
      ->check(CLI::Range(2, 1 << 16));
  command
      ->add_option("--probes", arguments->probes, "random directions per map, for variants that mix a value's numbers")
      ->check(CLI::Range(1, 1024));
  command->add_option("--maps", arguments->maps,
                      "also write the maps, [windows, heads, T, T] per layer, as safetensors");
  command->add_option("--data", arguments->data_path, "where the text lies now, if not where it was trained on");
  command->add_flag("--json", arguments->json, "one JSON document on standard output");
  command->footer(std::string(columns_help) +
                  "\nExample: attnscale inspect results/shakespeare-published --maps maps.safetensors");
  command->callback([=, &action] { action = [=] { return inspect(*arguments); }; });
}

}  // namespace attnscale

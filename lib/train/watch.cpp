#include "train/watch.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <ATen/Functions.h>
#include <fmt/format.h>

#include "attention/registry.h"
#include "diagnostics/attention_map.h"
#include "diagnostics/head_roles.h"

namespace attnscale {
namespace {

// Enough positions for an entropy, few enough for a look to cost little.
constexpr int64_t most_positions = 64;

// Above this share of units that do nothing, a layer is narrower than it was paid for.
constexpr double most_dead = 0.5;
// Below this share of a uniform attention's entropy, nearly every position takes from one other (Zhai et al. 2023,
// arXiv:2303.06296, section 3, where training then oscillates or diverges).
constexpr double least_share = 0.02;

double norm_of(const std::vector<Tensor>& tensors) {
  if (tensors.empty()) return 0;
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(tensors, 2))).item<double>();
}

double rms(const Tensor& x) { return x.to(at::kDouble).square().mean().sqrt().item<double>(); }

double mean(const std::vector<double>& numbers) {
  double sum = 0;
  for (const double number : numbers) sum += number;
  return numbers.empty() ? 0 : sum / static_cast<double>(numbers.size());
}

bool is_down(const std::string& name) {
  return name.find(".feed_forward.") != std::string::npos && name.ends_with("down.weight");
}

/// Layers whose feed-forward network is shut off by its gain (ReZero's, as it begins): no unit's gradient is anything.
std::set<std::string> shut_off(const std::vector<Slot>& slots) {
  std::set<std::string> layers;
  for (const auto& slot : slots)
    if (slot.name.ends_with(".residual2") && slot.parameter.eq(0).all().item<bool>()) layers.insert(layer_of(slot.name));
  return layers;
}

/// Layers in the model's order: the embeddings, the blocks by number, then the rest by name.
bool comes_before(const std::string& a, const std::string& b) {
  const auto key = [](const std::string& name) {
    if (name.starts_with("blocks.")) return std::tuple(1, std::stoll(name.substr(7)), name);
    return std::tuple(name.starts_with("embedding") || name.starts_with("position") ? 0 : 2, 0LL, name);
  };
  return key(a) < key(b);
}

/// A window of random tokens that comes twice, [1, T], T even and at most most_positions; undefined where the window is
/// too short to repeat anything.
Tensor repeated_tokens(const Tensor& inputs, int64_t vocabulary) {
  const int64_t half = std::min(most_positions, inputs.size(1)) / 2;
  if (half < 2) return {};
  const auto once = torch::randint(vocabulary, {1, half}, torch::kInt64).to(inputs.device());
  return at::cat({once, once}, 1);
}

/// Inputs of the first window's first positions.
Inputs first_positions(const Inputs& inputs) {
  const auto cut = [](const Tensor& x) {
    return x.defined() ? x.narrow(0, 0, 1).narrow(2, 0, std::min(most_positions, x.size(2))) : x;
  };
  Inputs result{.query = cut(inputs.query),
                .key = cut(inputs.key),
                .value = cut(inputs.value),
                .gates = {},
                .hidden = cut(inputs.hidden)};
  for (const auto& [name, gate] : inputs.gates) result.gates[name] = cut(gate);
  return result;
}

/// Largest |q . k| / sqrt(D) where the query sees the key.
double largest_logit(const Attention& attention, const Inputs& inputs) {
  const auto query = inputs.query.to(at::kDouble);
  const auto key = inputs.key.to(at::kDouble).repeat_interleave(query.size(1) / inputs.key.size(1), 1);
  auto logits = at::matmul(query, key.transpose(2, 3)).abs() / std::sqrt(static_cast<double>(key.size(3)));
  if (attention.geometry().causal) logits = logits.tril();
  return logits.max().item<double>();
}

std::string number(double value) { return fmt::format("{:.3g}", value); }

const char* divergence_advice =
    "take a lower train.learning_rate or a longer train.warmup_steps, clip harder (train.clip_norm), or let the run "
    "recover: train.on_divergence \"roll_back\"";

}  // namespace

std::string layer_of(const std::string& parameter) {
  const auto dot = parameter.find('.');
  return parameter.substr(0, parameter.starts_with("blocks.") ? parameter.find('.', dot + 1) : dot);
}

std::optional<double> noise_scale(double small_square, double large_square, int64_t small, int64_t large) {
  const auto b = static_cast<double>(small), B = static_cast<double>(large);
  const double gradient = (B * large_square - b * small_square) / (B - b);  // |G|^2
  const double noise = (small_square - large_square) / (1 / b - 1 / B);     // tr(Sigma)
  if (!(gradient > 0) || !(noise >= 0)) return std::nullopt;
  return noise / gradient;
}

LayerLook& StepLook::layer(const std::string& name) {
  for (auto& [known, found] : look_.layers)
    if (known == name) return found;
  return look_.layers.emplace_back(name, LayerLook{}).second;
}

void StepLook::add_pass(const std::vector<Slot>& slots) {
  const torch::NoGradGuard no_gradients;
  std::vector<Tensor> gradients;
  for (const auto& slot : slots)
    if (slot.parameter.grad().defined()) gradients.push_back(slot.parameter.grad());
  pass_squares_.push_back(std::pow(norm_of(gradients), 2));
}

void StepLook::before_update(const std::vector<Slot>& slots, int64_t windows, double loss_scale) {
  const torch::NoGradGuard no_gradients;
  std::map<std::string, std::vector<Tensor>> gradients, weights;
  std::map<std::string, std::pair<int64_t, int64_t>> dead;  // of how many
  std::vector<Tensor> all;
  const auto shut = shut_off(slots);
  for (const auto& slot : slots) {
    const auto name = layer_of(slot.name);
    weights[name].push_back(slot.parameter.detach());
    weights_.push_back(slot.parameter.detach().clone());
    const auto& gradient = slot.parameter.grad();
    if (gradient.defined()) gradients[name].push_back(gradient), all.push_back(gradient);
    if (!is_down(slot.name) || shut.contains(name)) continue;
    const int64_t units = slot.parameter.size(1);
    const int64_t without = gradient.defined() ? gradient.eq(0).all(0).sum().item<int64_t>() : units;
    // An expert that no position of the batch chose; one that was chosen and is dead throughout cannot be told from it.
    if (without == units && slot.name.find(".experts.") != std::string::npos) continue;
    dead[name].first += without;
    dead[name].second += units;
  }
  std::vector<std::string> names;
  for (const auto& [name, unused] : weights) names.push_back(name);
  std::sort(names.begin(), names.end(), comes_before);
  for (const auto& name : names) {
    auto& found = layer(name);
    found["gradient_norm"] = norm_of(gradients[name]);
    found["weight_norm"] = norm_of(weights[name]);
    if (const auto units = dead.find(name); units != dead.end())
      found["dead_units"] = static_cast<double>(units->second.first) / static_cast<double>(units->second.second);
  }
  const auto passes = static_cast<int64_t>(pass_squares_.size());
  if (passes < 2) return;
  // A pass's gradient is its share of the mean: passes times it is the gradient of its own windows.
  const double small = mean(pass_squares_) * static_cast<double>(passes * passes) / (loss_scale * loss_scale);
  look_.noise_scale = noise_scale(small, std::pow(norm_of(all), 2), windows / passes, windows);
}

void StepLook::after_update(const std::vector<Slot>& slots) {
  const torch::NoGradGuard no_gradients;
  std::map<std::string, std::vector<Tensor>> updates;
  for (size_t i = 0; i < slots.size(); ++i)
    updates[layer_of(slots[i].name)].push_back(slots[i].parameter.detach() - weights_[i]);
  for (const auto& [name, own] : updates) layer(name)["update_norm"] = norm_of(own);
  weights_.clear();
}

void look_at_activations(Transformer& model, const AttentionChoice& attention, const Tensor& inputs, uint64_t seed,
                         Look& look) {
  const bool training = model.is_training();
  model.eval();
  at::manual_seed(seed);
  const auto found = [&](int64_t layer) -> LayerLook& {
    const auto name = fmt::format("blocks.{}", layer);
    for (auto& [known, numbers] : look.layers)
      if (known == name) return numbers;
    return look.layers.emplace_back(name, LayerLook{}).second;
  };
  const auto see_attention = [&](int64_t layer, Attention& variant, const Inputs& all) {
    const auto few = first_positions(all);
    const auto statistics = attention_statistics(implied_attention(variant, few), variant.geometry().causal);
    auto& numbers = found(layer);
    numbers["attention_entropy"] = mean(statistics.entropy);
    numbers["attention_share"] = mean(statistics.share_of_limit);
    numbers["attention_distance"] = mean(statistics.distance);
    if (variant_named(at_layer(attention, layer).variant).traits.contains(Trait::logit_bias))
      numbers["logit_max"] = largest_logit(variant, few);
  };
  model.observe(inputs, see_attention,
                [&](int64_t layer, const Tensor& stream) { found(layer)["stream_rms"] = rms(stream); });
  for (const auto& item : model.named_parameters())
    if (item.key().ends_with(".mixer.output.weight") && model.options().num_heads > 1)
      found(std::stoll(item.key().substr(std::string("blocks.").size())))["head_overlap"] =
          mean_overlap(subspace_overlaps(item.value().detach(), model.options().num_heads));
  if (const auto twice = repeated_tokens(inputs, *model.options().vocab_size); twice.defined())
    model.observe(twice, [&](int64_t layer, Attention& variant, const Inputs& all) {
      if (!variant.geometry().causal || all.hidden.defined()) return;
      const auto scores = induction_scores(implied_attention(variant, first_positions(all)));
      found(layer)["induction"] = *std::max_element(scores.begin(), scores.end());
    });
  model.train(training);
}

std::optional<Json> to_row(const Look& look, int64_t step, double learning_rate) {
  Json row = {{"step", step}, {"watch", true}, {"learning_rate", learning_rate}, {"layers", Json::object()}};
  for (const auto& [name, numbers] : look.layers)
    for (const auto& [what, value] : numbers) {
      if (!std::isfinite(value)) return std::nullopt;
      row["layers"][name][what] = value;
    }
  if (look.noise_scale) row["noise_scale"] = *look.noise_scale;
  return row;
}

Json watch_columns(const std::vector<Json>& rows) {
  Json columns = {{"steps", Json::array()}, {"learning_rate", Json::array()}, {"layers", Json::object()}};
  for (const auto& row : rows) {
    columns["steps"].push_back(row["step"]);
    columns["learning_rate"].push_back(row["learning_rate"]);
    for (const auto& [layer, numbers] : row["layers"].items())
      for (const auto& [what, value] : numbers.items()) columns["layers"][layer][what].push_back(value);
  }
  std::vector<Json> noise;
  Json noise_steps = Json::array();
  for (const auto& row : rows)
    if (row.contains("noise_scale")) noise.push_back(row["noise_scale"]), noise_steps.push_back(row["step"]);
  if (!noise.empty()) columns["noise_scale"] = {{"steps", noise_steps}, {"windows", noise}};
  return columns;
}

Json alarms_of(const std::vector<Json>& rows, const std::optional<int64_t>& diverged_at, const std::string& cause) {
  Json alarms = Json::array();
  std::set<std::string> raised;
  const auto raise = [&](const std::string& kind, const Json& row, const std::string& layer, double value,
                         const std::string& advice) {
    if (!raised.insert(kind + " " + layer).second) return;
    alarms.push_back({{"kind", kind}, {"step", row["step"]}, {"layer", layer}, {"value", value}, {"advice", advice}});
  };
  for (const auto& row : rows)
    for (const auto& [layer, numbers] : row["layers"].items()) {
      if (const double dead = numbers.value("dead_units", 0.0); dead > most_dead)
        raise("dead_units", row, layer, dead,
              fmt::format("{} of the feed-forward units do nothing: take a lower train.learning_rate, a longer "
                          "train.warmup_steps, or a model.feed_forward that does not die (gelu, silu)",
                          number(dead)));
      if (const double share = numbers.value("attention_share", 1.0); share < least_share)
        raise("entropy_collapse", row, layer, share,
              fmt::format("attention has {} of a uniform one's entropy: unless the task needs just one position, take "
                          "model.qk_norm \"rms_norm\", a lower train.learning_rate or a longer train.warmup_steps",
                          number(share)));
    }
  if (diverged_at) {
    const bool nan = cause.find("not finite") != std::string::npos;
    alarms.push_back({{"kind", nan ? "nan" : "divergence"},
                      {"step", *diverged_at},
                      {"advice", fmt::format("{}: {}", cause, divergence_advice)}});
  }
  return alarms;
}

}  // namespace attnscale

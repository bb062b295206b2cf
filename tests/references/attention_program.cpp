// reference_attention CONFIG INPUTS OUTPUT: one attention variant with tensors from elsewhere, forward and backward, so
// that outside.py can compare it with published implementations.
//
// CONFIG   {"attention": {"variant": "...", options}, "geometry": {"num_heads": n, ..., "causal": true}}
// INPUTS   safetensors: `query`, `key`, `value`, `gate NAME`, or `hidden`; `key_padding` if wanted; for each of the
//          variant's parameters `parameter NAME` (for buffers too, if wanted); `output_gradient` for a backward pass
// OUTPUT   safetensors: `output`; with `output_gradient` also `gradient NAME` for each input and parameter; for a
//          causal variant that decodes `decoded`, the output of pieces of 1, 7 and the rest

#include <iostream>

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/autograd.h>

#include "attention/registry.h"
#include "core/error.h"
#include "core/json.h"
#include "train/safetensors.h"

namespace attnscale {
namespace {

Geometry geometry_of(const Json& json) {
  Geometry geometry;
  const std::map<std::string, int64_t*> numbers = {
      {"num_heads", &geometry.num_heads}, {"num_kv_heads", &geometry.num_kv_heads}, {"head_dim", &geometry.head_dim},
      {"value_dim", &geometry.value_dim}, {"context", &geometry.context},           {"layer", &geometry.layer},
      {"depth", &geometry.depth},         {"model_dim", &geometry.model_dim}};
  for (const auto& [name, value] : json.items()) {
    if (name == "causal") geometry.causal = value.get<bool>();
    else *numbers.at(name) = value.get<int64_t>();
  }
  return geometry;
}

/// Takes what is called `prefix NAME` out of the tensors.
TensorMap taken(TensorMap& tensors, const std::string& prefix) {
  TensorMap result;
  for (auto at = tensors.begin(); at != tensors.end();) {
    if (!at->first.starts_with(prefix)) {
      ++at;
      continue;
    }
    result[at->first.substr(prefix.size())] = at->second;
    at = tensors.erase(at);
  }
  return result;
}

/// Every parameter must be there, with its shape, and nothing else; buffers (random projections) may be.
void load(Attention& attention, const TensorMap& weights) {
  const torch::NoGradGuard guard;
  const auto parameters = attention.named_parameters(), buffers = attention.named_buffers();
  for (const auto& item : parameters)
    if (!weights.contains(item.key())) throw DataError(fmt::format("parameter {} is missing", item.key()));
  for (const auto& [name, value] : weights) {
    auto to = parameters.contains(name) ? parameters[name] : buffers.contains(name) ? buffers[name] : Tensor();
    if (!to.defined()) throw DataError(fmt::format("the variant has no parameter {}", name));
    if (to.sizes() != value.sizes())
      throw DataError(fmt::format("parameter {} should have the shape [{}]", name, fmt::join(to.sizes().vec(), ", ")));
    to.copy_(value);
  }
}

Tensor decoded(Attention& attention, const Inputs& in) {
  const torch::NoGradGuard guard;
  const auto& longest = in.hidden.defined() ? in.hidden : in.query;
  auto state = attention.new_state(longest.size(0), longest.options());
  std::vector<Tensor> pieces;
  for (int64_t count : {int64_t{1}, int64_t{7}, longest.size(2)}) {
    count = std::min(count, longest.size(2) - state.length);
    const auto piece = [&](const Tensor& x) { return x.defined() ? x.narrow(2, state.length, count) : x; };
    Inputs part{.query = piece(in.query), .key = piece(in.key), .value = piece(in.value), .hidden = piece(in.hidden)};
    for (const auto& [name, gate] : in.gates) part.gates[name] = piece(gate);
    if (count > 0) pieces.push_back(attention.decode(part, state));
  }
  return at::cat(pieces, 2);
}

void run(const std::string& config_file, const std::string& inputs_file, const std::string& output_file) {
  const auto config = read_json(config_file).value;
  Json options = config.at("attention");
  const auto& variant = variant_named(options.at("variant").get<std::string>());
  options.erase("variant");
  const auto geometry = geometry_of(config.at("geometry"));
  for (const auto& reason : refusals(variant, options, geometry)) throw ConfigError(reason);
  const auto attention = variant.make(options, geometry);

  auto tensors = read_safetensors(inputs_file);
  const auto output_gradient = tensors["output_gradient"], key_padding = tensors["key_padding"];
  tensors.erase("output_gradient"), tensors.erase("key_padding");
  const auto weights = taken(tensors, "parameter ");
  for (auto& [name, tensor] : tensors) tensor.requires_grad_(true);
  attention->to((tensors.contains("hidden") ? tensors["hidden"] : tensors["query"]).scalar_type());
  load(*attention, weights);
  attention->eval();
  auto rest = tensors;
  Inputs inputs{.gates = taken(rest, "gate "), .key_padding = key_padding};
  for (const auto& [name, to] : std::map<std::string, Tensor*>{
           {"query", &inputs.query}, {"key", &inputs.key}, {"value", &inputs.value}, {"hidden", &inputs.hidden}})
    if (const auto found = rest.extract(name)) *to = found.mapped();
  if (!rest.empty()) throw DataError(fmt::format("unknown input {}", rest.begin()->first));

  const auto output = attention->forward(inputs);
  TensorMap results = {{"output", output.detach()}};
  if (geometry.causal && variant.traits.contains(Trait::incremental) && !key_padding.defined())
    results["decoded"] = decoded(*attention, inputs);
  if (output_gradient.defined()) {
    for (const auto& item : attention->named_parameters()) tensors["parameter " + item.key()] = item.value();
    std::vector<Tensor> leaves;
    for (const auto& [name, tensor] : tensors) leaves.push_back(tensor);
    const auto gradients = torch::autograd::grad({output}, leaves, {output_gradient}, std::nullopt, false, true);
    size_t i = 0;
    for (const auto& [name, tensor] : tensors) {
      results["gradient " + name] = gradients[i].defined() ? gradients[i] : at::zeros_like(tensor);
      ++i;
    }
  }
  write_safetensors(output_file, results);
}

}  // namespace
}  // namespace attnscale

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: reference_attention CONFIG INPUTS OUTPUT\n";
    return 2;
  }
  try {
    attnscale::run(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::cerr << "reference_attention: " << error.what() << '\n';
    return 1;
  }
  return 0;
}

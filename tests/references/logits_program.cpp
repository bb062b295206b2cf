// reference_logits CONFIG WEIGHTS OUTPUT: our logits for weights from elsewhere, so that logits_test.py can compare.
//
// CONFIG   {"model": {...}, "attention": {...}, "context": n, "tokens": [[...], ...]}
// WEIGHTS  safetensors, one tensor for each of our parameters, by our names
// OUTPUT   safetensors: `logits` [B, T, V] of one forward pass, and `decoded`, the same in pieces of 1, 7 and the rest

#include <iostream>

#include <fmt/format.h>

#include "model/attention_choice.h"
#include "model/transformer.h"
#include "train/safetensors.h"

namespace attnscale {
namespace {

/// Every parameter must be there, with its shape, and nothing else.
void load(Transformer& model, const TensorMap& weights) {
  const torch::NoGradGuard guard;
  const auto parameters = model.named_parameters();
  for (const auto& item : parameters) {
    const auto found = weights.find(item.key());
    if (found == weights.end()) throw DataError(fmt::format("weights: {} is missing", item.key()));
    if (found->second.sizes() != item.value().sizes())
      throw DataError(fmt::format("weights: {} has another shape than the model's", item.key()));
    item.value().copy_(found->second);
  }
  for (const auto& [name, value] : weights)
    if (!parameters.contains(name)) throw DataError(fmt::format("weights: the model has no parameter {}", name));
}

Tensor tokens_of(const Json& rows) {
  std::vector<int64_t> flat;
  for (const auto& row : rows)
    for (const auto& token : row) flat.push_back(token.get<int64_t>());
  return torch::tensor(flat, torch::kInt64).view({static_cast<int64_t>(rows.size()), -1});
}

Tensor decoded(Transformer& model, const Tensor& tokens) {
  auto state = model.new_state(tokens.size(0));
  std::vector<Tensor> pieces;
  for (const int64_t count : {int64_t{1}, int64_t{7}, tokens.size(1) - 8})
    pieces.push_back(model.decode(tokens.narrow(1, state.length, count), state));
  return at::cat(pieces, 1);
}

void run(const std::string& config_file, const std::string& weights_file, const std::string& output_file) {
  const auto document = read_json(config_file);
  std::vector<Problem> problems;
  ModelOptions options;
  read_options(document.value.at("model"), "model", options, problems);
  const auto attention = read_attention(document.value.at("attention"), problems);
  document.refuse(problems);

  Transformer model(resolved(options, 0), attention, document.value.at("context").get<int64_t>(), 0);
  load(model, read_safetensors(weights_file));
  const auto tokens = tokens_of(document.value.at("tokens"));
  TensorMap results;
  if (document.value.value("gradients", false)) {  // of the mean square of the logits, and what routers add to a loss
    model.forward(tokens).square().mean().backward();
    for (const auto& item : model.named_parameters()) results["gradient." + item.key()] = item.value().grad();
    if (const auto loss = model.take_auxiliary_loss(); loss.defined()) results["auxiliary"] = loss.detach();
  }
  model.eval();
  const torch::NoGradGuard guard;
  results["logits"] = model.forward(tokens);
  if (options.head == "next_token") results["decoded"] = decoded(model, tokens);
  write_safetensors(output_file, results);
}

}  // namespace
}  // namespace attnscale

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: reference_logits CONFIG WEIGHTS OUTPUT\n";
    return 2;
  }
  try {
    attnscale::run(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::cerr << "reference_logits: " << error.what() << '\n';
    return 1;
  }
  return 0;
}

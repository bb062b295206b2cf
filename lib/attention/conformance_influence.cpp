// Conformance, eighth theme: every option changes something that can be seen. Only what is measured counts, not what
// `cost` says of it.

#include <algorithm>

#include <ATen/ops/equal.h>
#include <ATen/ops/randn_like.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include "attention/conformance_case.h"
#include "tensor/flop_counter.h"

namespace attnscale::conformance {
namespace {

/// What a variant does at a place, in training.
struct Behaviour {
  std::vector<std::string> gates;  // with their widths
  int64_t num_parameters = 0;
  int64_t state_bytes = 0;
  double flops = 0;
  std::vector<Tensor> values;  // output, its gradients, the auxiliary loss and its gradients
};

Behaviour behaviour_of(const Case& test) {
  Behaviour result;
  for (const auto& gate : test.variant.gates(test.options, test.geometry))
    result.gates.push_back(fmt::format("{} {}", gate.name, gate.width));
  const auto attention = test.make();
  for (const auto& parameter : attention->parameters()) result.num_parameters += parameter.numel();
  const int64_t length = test.geometry.context;
  const auto inputs = test.inputs(1, length, length);
  Tensor output;
  {
    const FlopCounter counter;
    output = attention->forward(inputs);
    result.flops = counter.total();
  }
  torch::manual_seed(test.seed + 10);
  const auto by = leaves(inputs, attention.get());
  result.values = gradients(output, at::randn_like(output.detach()), by);
  result.values.push_back(output.detach());
  if (const auto loss = attention->take_auxiliary_loss(); loss.defined()) {
    for (auto& slope : gradients(loss, at::ones_like(loss.detach()), by)) result.values.push_back(slope);
    result.values.push_back(loss.detach());
  }
  if (test.geometry.causal && test.has(Trait::incremental)) {
    const torch::NoGradGuard no_gradients;
    auto state = attention->new_state(1, torch::kFloat64);
    attention->decode(inputs, state);
    result.state_bytes = state.bytes();
  }
  return result;
}

bool same(const Behaviour& a, const Behaviour& b) {
  return a.gates == b.gates && a.num_parameters == b.num_parameters && a.state_bytes == b.state_bytes &&
         a.flops == b.flops &&
         std::equal(a.values.begin(), a.values.end(), b.values.begin(), b.values.end(),
                    [](const Tensor& x, const Tensor& y) { return at::equal(x, y); });
}

/// Legal values of a field, the likeliest to matter at a few dozen positions first. Null: left out.
std::vector<Json> other_values(const VariantInfo& variant, const Field& field) {
  using Type = Field::Type;
  std::vector<Json> values;
  for (const auto& sample : variant.samples)
    if (sample.contains(field.name)) values.push_back(sample[field.name]);
  if (field.type == Type::boolean) values.insert(values.end(), {true, false});
  if (field.type == Type::text)
    for (const auto& choice : field.choices) values.push_back(choice);
  const double usual = field.default_value.is_number() ? field.default_value.get<double>() : 4;
  if (field.type == Type::integer) {
    for (const double value : {2.0, 3.0, 4.0, 8.0, 16.0, usual / 2, usual - 1, usual + 1, usual * 2})
      values.push_back(static_cast<int64_t>(value));
    if (field.minimum) values.push_back(static_cast<int64_t>(*field.minimum));
  }
  if (field.type == Type::number) values.insert(values.end(), {usual / 2, usual * 2, usual + 1, usual + 0.1, 0.5});
  values.push_back(field.default_value);
  if (field.optional) values.push_back(nullptr);
  std::erase_if(values, [&](const Json& value) { return !value.is_null() && !field.problem_with(value).empty(); });
  return values;
}

/// Whether some value of the field makes the variant do something else at some place.
bool matters(const VariantInfo& variant, const Field& field, const std::vector<Case>& places,
             std::vector<std::optional<Behaviour>>& usual) {
  const auto values = other_values(variant, field);
  for (size_t i = 0; i < places.size(); ++i) {
    const auto before = variant.resolve(places[i].options);
    std::set<std::string> tried = {before.dump()};
    for (const auto& value : values) {
      Case other = places[i];
      if (value.is_null()) other.options.erase(field.name);
      else other.options[field.name] = value;
      if (!tried.insert(variant.resolve(other.options).dump()).second) continue;
      if (!refusals(variant, other.options, other.geometry).empty()) continue;
      if (!usual[i]) usual[i] = behaviour_of(places[i]);
      if (!same(*usual[i], behaviour_of(other))) return true;
    }
  }
  return false;
}

}  // namespace

void check_options_matter(const VariantInfo& variant, const std::vector<Case>& places, Recorder& record) {
  std::vector<std::optional<Behaviour>> usual(places.size());
  for (const auto& field : variant.fields)
    record.note("options_matter", !matters(variant, field, places, usual), 0,
                fmt::format("{}: no legal value changes anything that was measured", field.name));
}

}  // namespace attnscale::conformance

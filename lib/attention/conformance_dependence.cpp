// Conformance, second theme: who influences whom. Positions, batch rows, padding.

#include <ATen/ops/cat.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "attention/conformance_case.h"

namespace attnscale::conformance {
namespace {

// A kernel may split its work by the batch size, which changes the order of float64 sums.
constexpr double rounding_tolerance = 1e-12;
// Another length may be cut into other chunks, whose sums have another order, as in decoding.
constexpr double prefix_tolerance = 1e-11;

/// Influence of each input position on each output position: [T, S], the largest gradient in size.
///
/// One backward pass: row t of a batch of T copies looks at output t alone (rows do not influence
/// each other: `batch_independence`).
std::vector<Leaf> influence(Attention& attention, const Case& test, int64_t length) {
  auto inputs =
      mapped(test.inputs(1, length, length), [&](const Tensor& tensor) { return tensor.repeat({length, 1, 1, 1}); });
  const auto output = attention.forward(inputs);  // [T, H, T, E]
  const auto own = output.diagonal(0, 0, 2);      // [H, E, T]: output t of copy t
  torch::manual_seed(test.seed + 4);
  const auto by = leaves(inputs);
  const auto slopes = gradients(own, at::randn_like(own.detach()), by);  // [T, heads, S, width]
  const auto reduce = [](const Tensor& slope) { return slope.abs().amax({1, 3}); };
  std::vector<Leaf> result;
  for (size_t i = 0; i < by.size(); ++i) result.push_back({by[i].name, reduce(slopes[i])});
  return result;
}

/// sees(t, s) as a mask [T, S]
Tensor declared(const Attention& attention, int64_t length) {
  auto mask = at::zeros({length, length}, torch::kBool);
  auto cells = mask.accessor<bool, 2>();
  for (int64_t t = 0; t < length; ++t)
    for (int64_t s = 0; s < length; ++s) cells[t][s] = attention.sees(t, s, length);
  return mask;
}

void check_positions(Attention& attention, const Case& test, Recorder& record) {
  for (const int64_t length : test.lengths) {
    const auto where = test.at(length);
    auto on_pair = at::zeros({length, length}, torch::kFloat64);
    for (const auto& [name, slope] : influence(attention, test, length)) {
      if (test.geometry.causal) record.note("causal_no_leak", largest(slope.triu(1)), 0, where + ", " + name);
      if (name == "key" || name == "value" || name == "hidden") on_pair = at::max(on_pair, slope);
    }
    const auto visible = declared(attention, length);
    record.note("sees_nothing_else", largest(on_pair.masked_fill(visible, 0)), 0, where);
    if (!test.has(Trait::content_dependent)) {
      const auto missing = visible.logical_and(on_pair == 0).sum().item<double>();
      record.note("sees_all_declared", missing, 0, where);
    } else if (length == test.geometry.context && !test.smallest) {
      const auto others = on_pair.clone().fill_diagonal_(0).amax(1) > 0;
      const double share = others.to(torch::kFloat64).mean().item<double>();
      record.note("positions_interact", std::max(0.0, 0.5 - share), 0, where);
    }
  }
}

/// Sorting, hashing and cluster membership have no gradient: a future that decides who shares a bucket
/// leaks without one. So all later inputs are replaced, and the earlier outputs must stay.
/// A formula that holds the number of positions leaks that number: the first ones alone must give the same too.
void check_future(Attention& attention, const Case& test, Recorder& record) {
  const torch::NoGradGuard no_gradients;
  for (const int64_t length : test.lengths) {
    const auto inputs = test.inputs(2, length, length);
    const auto output = attention.forward(inputs);
    for (const int64_t kept : {length / 3, length / 2, length - 1}) {
      if (kept < 1) continue;
      torch::manual_seed(test.seed + 7);
      const auto changed = mapped(inputs, [&](const Tensor& tensor) {
        return at::cat({tensor.slice(2, 0, kept), at::randn_like(tensor.slice(2, kept)) * 3}, 2);
      });
      record.note("future_inert", distance(attention.forward(changed).slice(2, 0, kept), output.slice(2, 0, kept)),
                  rounding_tolerance, test.at(length) + fmt::format(", positions from {} on replaced", kept));
      const auto first = mapped(inputs, [&](const Tensor& tensor) { return tensor.slice(2, 0, kept); });
      record.note("prefix_equal", distance(attention.forward(first), output.slice(2, 0, kept)), prefix_tolerance,
                  test.at(length) + fmt::format(", the first {} alone", kept));
    }
  }
}

/// At full context every input, gate and parameter has some influence on the output or the auxiliary loss.
void check_all_used(Attention& attention, const Case& test, Recorder& record) {
  const int64_t length = test.geometry.context;
  const auto inputs = test.inputs(2, length, length);
  const auto output = attention.forward(inputs);
  torch::manual_seed(test.seed + 5);
  const auto by = leaves(inputs, &attention);
  auto slopes = gradients(output, at::randn_like(output.detach()), by);
  if (const auto loss = attention.take_auxiliary_loss(); loss.defined()) {
    const auto more = gradients(loss, at::ones_like(loss.detach()), by);
    for (size_t i = 0; i < by.size(); ++i) slopes[i] = slopes[i].abs() + more[i].abs();
  }
  int64_t ignored = 0;
  std::string names;
  for (size_t i = 0; i < by.size(); ++i)
    if (largest(slopes[i]) == 0) ++ignored, names += ", " + by[i].name;
  record.note("nothing_ignored", static_cast<double>(ignored), 0, test.at(length) + names);
}

void check_batch(Attention& attention, const Case& test, Recorder& record) {
  for (const int64_t length : test.lengths) {
    const auto where = test.at(length);
    const auto inputs = test.inputs(3, length, length);
    const auto output = attention.forward(inputs);
    const auto compare = [&](const char* what, const Tensor& actual, const Tensor& expected) {
      record.note("batch_independence", distance(actual, expected), rounding_tolerance, where + ", " + what);
    };
    const auto order = torch::tensor(std::vector<int64_t>{2, 0, 1});
    const auto permuted = mapped(inputs, [&](const Tensor& tensor) { return tensor.index_select(0, order); });
    compare("permuted", attention.forward(permuted), output.index_select(0, order));
    const auto alone = mapped(inputs, [](const Tensor& tensor) { return tensor.slice(0, 0, 1); });
    compare("alone", attention.forward(alone), output.slice(0, 0, 1));
    const auto loud =
        mapped(inputs, [](const Tensor& tensor) { return at::cat({tensor.slice(0, 0, 1), tensor.slice(0, 1) * 1e3}); });
    compare("beside rows 1000 times as large", attention.forward(loud).slice(0, 0, 1), output.slice(0, 0, 1));

    const auto first = output.slice(0, 0, 1);
    const auto slopes = gradients(first, at::ones_like(first.detach()), leaves(inputs));
    for (const auto& slope : slopes)
      record.note("batch_independence", largest(slope.slice(0, 1)), rounding_tolerance, where + ", gradient to mates");
  }
}

void check_padding(Attention& attention, const Case& test, Recorder& record) {
  for (const int64_t length : test.lengths) {
    const auto where = test.at(length);
    auto inputs = test.inputs(3, length, length);
    inputs.key_padding = ragged_padding(length);
    const auto real = inputs.key_padding.view({3, 1, length, 1});  // of queries too, for T = S
    const auto output = attention.forward(inputs);
    torch::manual_seed(test.seed + 6);
    const auto noisy =
        mapped(inputs, [&](const Tensor& tensor) { return at::where(real, tensor, at::randn_like(tensor) * 1e3); });
    const auto changed = attention.forward(noisy);
    record.note("padding_inert", distance(at::where(real, changed, 0), at::where(real, output, 0)), rounding_tolerance,
                where);
    const auto weight = real.expand(output.sizes()).to(torch::kFloat64);
    const auto by = leaves(inputs);
    const auto slopes = gradients(output, weight, by);
    for (size_t i = 0; i < by.size(); ++i)
      record.note("padding_inert", largest(slopes[i].masked_fill(real, 0)), 0, where + ", gradient to " + by[i].name);

    const auto all_slopes = gradients(output, at::ones_like(output.detach()), leaves(inputs, &attention));
    int64_t bad = count_non_finite(output);
    for (const auto& slope : all_slopes) bad += count_non_finite(slope);
    record.note("all_padded_finite", static_cast<double>(bad), 0, where);
  }
}

}  // namespace

void check_dependence(const Case& test, Recorder& record) {
  const auto attention = test.make();
  check_positions(*attention, test, record);
  if (test.geometry.causal) check_future(*attention, test, record);
  if (!test.smallest) check_all_used(*attention, test, record);
  check_batch(*attention, test, record);
  if (test.has(Trait::padding)) check_padding(*attention, test, record);
}

}  // namespace attnscale::conformance

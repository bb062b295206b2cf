#include "bench/attention.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "attention/registry.h"
#include "bench/computed_flops.h"
#include "bench/crossover.h"
#include "bench/peer_script.h"
#include "bench/peer_source.h"
#include "bench/python_peer.h"
#include "bench/timing.h"
#include "core/nearest.h"
#include "core/units.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/linear_kernel.h"
#include "tensor/kernels/tiles.h"
#include "tensor/memory.h"
#include "tensor/memory_counter.h"
#include "train/provenance.h"

// B batch, H heads, T positions, D head dim

namespace attnscale {
namespace {

/// One variant at one length, with what its timing needs.
struct Case {
  const VariantInfo* variant;
  int64_t length;
  std::shared_ptr<Attention> attention;
  Inputs inputs;    // [B, H, T, D] each, or hidden [B, 1, T, H D], with gradients
  Tensor upstream;  // gradient of the output
  Timing forward, both, theirs;
  std::string their_way;   // which of several that PyTorch has
  int64_t peak_bytes = 0;  // of forward and backward, both of these
  double computed_flops = 0;
  Cost cost;
  int calls = 1;  // in a turn

  void run_forward() {
    const torch::NoGradGuard guard;
    attention->forward(inputs);
  }
  void run_both() {
    for (auto* tensor : {&inputs.query, &inputs.key, &inputs.value, &inputs.hidden})
      if (tensor->defined()) tensor->mutable_grad() = Tensor();
    for (auto& [name, gate] : inputs.gates) gate.mutable_grad() = Tensor();
    attention->forward(inputs).backward(upstream);
  }
};

Geometry geometry_of(const AttentionBench& bench, int64_t length) {
  return {.num_heads = bench.num_heads,
          .num_kv_heads = bench.num_heads,
          .head_dim = bench.head_dim,
          .value_dim = bench.head_dim,
          .context = length,
          .causal = bench.causal,
          .model_dim = bench.num_heads * bench.head_dim};
}

Case make_case(const AttentionBench& bench, const VariantInfo& variant, int64_t length, torch::ScalarType dtype) {
  const auto geometry = geometry_of(bench, length);
  const Json options = variant.resolve(Json::object());
  Case result{&variant, length, variant.make(options, geometry), {}, {}, {}, {}, {}, {}, 0, 0, {}};
  result.attention->to(dtype);
  const bool owns = variant.traits.contains(Trait::owns_projections);
  const int64_t heads = owns ? 1 : bench.num_heads, width = owns ? geometry.model_dim : bench.head_dim;
  const auto tensor = [&] { return torch::randn({bench.batch, heads, length, width}).to(dtype); };
  auto& in = result.inputs;
  if (owns) in.hidden = tensor().set_requires_grad(true);
  else
    for (auto* of : {&in.query, &in.key, &in.value}) *of = tensor().set_requires_grad(true);
  for (const auto& gate : variant.gates(options, geometry))
    in.gates[gate.name] =
        torch::randn({bench.batch, bench.num_heads, length, gate.width}).to(dtype).set_requires_grad(true);
  result.upstream = tensor();
  result.cost = variant.cost(options, geometry, {.batch = bench.batch, .queries = length, .keys = length});
  return result;
}

}  // namespace

torch::ScalarType scalar_type_named(const std::string& dtype) {
  if (dtype == "float32") return torch::kFloat32;
  if (dtype == "bfloat16") return torch::kBFloat16;
  if (dtype == "float64") return torch::kFloat64;
  throw ConfigError(
      fmt::format("unknown dtype \"{}\"{}", dtype, suggestion(dtype, {"float32", "bfloat16", "float64"})));
}

double gemm_gflops(torch::ScalarType dtype, Clock clock) {
  constexpr int64_t size = 512;
  const auto a = torch::randn({size, size}).to(dtype), b = torch::randn({size, size}).to(dtype);
  double fastest = measure([&] { at::mm(a, b); }, 3, 15, clock).minimum();
  if (has_kernels(dtype)) {
    const torch::NoGradGuard guard;
    const auto weight = b.to(torch::kFloat32);
    fastest = std::min(fastest, measure([&] { linear_kernel(a, weight, {}, dtype); }, 3, 15, clock).minimum());
  }
  return 2.0 * size * size * size / fastest * 1e-6;
}

namespace {

/// Everything of one variant along the lengths.
struct Curves {
  TimeCurve time;  // forward and backward
  std::vector<double> peak_bytes;
};

Json row_of(const Case& one, double peak_gflops) {
  const double gflops = one.computed_flops / one.both.median() * 1e-6;
  Json row = {{"variant", one.variant->name},
              {"family", one.variant->family},
              {"with_projections", one.variant->traits.contains(Trait::owns_projections)},
              {"length", one.length},
              {"forward_ms", one.forward.to_json()},
              {"forward_backward_ms", one.both.to_json()},
              {"executed_flops", one.cost.executed_flops},
              {"computed_flops", one.computed_flops},
              {"calls_per_turn", one.calls},
              {"gflops", gflops},
              {"of_gemm_peak", gflops / peak_gflops},
              {"peak_bytes", one.peak_bytes},
              {"state_bytes", one.cost.state_bytes}};
  if (one.theirs.milliseconds.empty()) return row;
  row["python"] = {{"forward_backward_ms", one.theirs.to_json()},
                   {"times_slower", times_slower(one.theirs, one.both)},
                   {"way", one.their_way}};
  return row;
}

/// One call with its memory and its FLOPs counted.
void count(Case& one) {
  release_scratch();
  const MemoryCounter memory;
  one.computed_flops = computed_flops([&] { one.run_both(); });
  one.peak_bytes = memory.peak() + scratch_bytes();
}

/// PyTorch's forms of some variants.
class PythonAttention {
 public:
  PythonAttention(const AttentionBench& bench, const std::vector<const VariantInfo*>& variants)
      : peer_(bench.python, with_common_module(attention_peer_script), bench.threads) {
    if (!bench.causal) throw ConfigError("--against python: the PyTorch script is causal; leave out --bidirectional");
    Json forms = Json::array();
    for (const auto* variant : variants)
      for (const auto* known : {"softmax", "sliding_window", "linear", "performer"})
        if (variant->name == known) forms.push_back(known);
    const auto default_of = [](const char* variant, const char* option) {
      return variant_named(variant).resolve(Json::object())[option];
    };
    about_ = peer_.ask({{"forms", forms},
                        {"batch", bench.batch},
                        {"heads", bench.num_heads},
                        {"width", bench.head_dim},
                        {"dtype", bench.dtype},
                        {"window", default_of("sliding_window", "window")},
                        {"features", default_of("performer", "num_features")},
                        {"threads", bench.threads},
                        {"clock", bench.clock}});
  }

  bool has(const std::string& variant) const {
    return std::find(about_["forms"].begin(), about_["forms"].end(), variant) != about_["forms"].end();
  }
  void call(Case& one) {
    const Json answer = peer_.ask({{"form", one.variant->name}, {"length", one.length}, {"calls", one.calls}});
    one.theirs.milliseconds.push_back(answer["ms"].get<double>() / one.calls);
    one.their_way = answer["way"].get<std::string>();
  }
  const Json& about() const { return about_; }

 private:
  PythonPeer peer_;
  Json about_;
};

/// Why a variant is not timed at a length, foreseen without making it; nothing if it can be.
std::optional<std::string> reason_to_leave_out(const AttentionBench& bench, const VariantInfo& variant, int64_t length,
                                               const Curves& before) {
  const auto geometry = geometry_of(bench, length);
  const Json options = variant.resolve(Json::object());
  if (const auto reasons = refusals(variant, options, geometry); !reasons.empty()) return reasons.front();
  const auto cost = variant.cost(options, geometry, {.batch = bench.batch, .queries = length, .keys = length});
  // The backward pass needs about as much again as the forward pass keeps.
  const double needed = 2.0 * static_cast<double>(cost.activation_bytes);
  if (const int64_t free = free_memory_bytes(); needed > 0.8 * static_cast<double>(free))
    return fmt::format("needs about {}, {} are free", bytes_text(static_cast<int64_t>(needed)), bytes_text(free));
  if (before.time.lengths.empty()) return std::nullopt;
  const double ratio = static_cast<double>(length) / before.time.lengths.back();
  const double seconds = Timing{before.time.milliseconds.back()}.median() * 1e-3 * ratio * ratio;
  if (seconds > bench.most_seconds)
    return fmt::format("would take about {:.0f} s a call, the limit is {:.0f} s", seconds, bench.most_seconds);
  return std::nullopt;
}

Json summary(const VariantInfo& variant, const Curves& curves, const Curves* baseline) {
  Json json = {{"variant", variant.name},
               {"family", variant.family},
               {"with_projections", variant.traits.contains(Trait::owns_projections)}};
  std::vector<double> medians;
  for (const auto& times : curves.time.milliseconds) medians.push_back(Timing{times}.median());
  if (const auto time = growth_at_the_end(curves.time.lengths, medians)) {
    const auto memory = growth_at_the_end(curves.time.lengths, curves.peak_bytes);
    json["growth"] = {{"from", time->from}, {"to", time->to}, {"time", time->factor}, {"memory", memory->factor}};
    json["exponent"] = {{"time", *exponent(curves.time.lengths, medians)},
                        {"memory", *exponent(curves.time.lengths, curves.peak_bytes)}};
  }
  if (baseline && baseline != &curves)
    if (const auto cross = crossover(curves.time, baseline->time)) json["crossover"] = cross->to_json();
  return json;
}

}  // namespace

Json bench_attention(const AttentionBench& bench) {
  const auto dtype = scalar_type_named(bench.dtype);
  const auto clock = clock_named(bench.clock, bench.threads);
  at::set_num_threads(bench.threads);
  std::vector<const VariantInfo*> variants;
  for (const auto& name : bench.variants) variants.push_back(&variant_named(name));
  if (variants.empty())
    for (const auto& variant : all_variants()) variants.push_back(&variant);
  auto lengths = bench.lengths;
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  std::optional<PythonAttention> python;
  if (!bench.python.empty()) python.emplace(bench, variants);
  const double peak = gemm_gflops(dtype, clock);
  Json rows = Json::array(), left_out = Json::array();
  std::map<std::string, Curves> curves;
  for (const auto length : lengths) {
    std::vector<Case> cases;
    for (const auto* variant : variants) {
      if (const auto reason = reason_to_leave_out(bench, *variant, length, curves[variant->name])) {
        left_out.push_back({{"variant", variant->name}, {"length", length}, {"reason", *reason}});
        continue;
      }
      cases.push_back(make_case(bench, *variant, length, dtype));
    }
    for (int repetition = -std::max(1, bench.warmup); repetition < bench.repetitions; ++repetition)
      for (auto& one : cases) {
        const double forward = time_of_turn([&] { one.run_forward(); }, one.calls, clock);
        if (repetition == -1) count(one);  // the last untimed call: counting costs time
        const double both = time_of_turn([&] { one.run_both(); }, one.calls, clock);
        if (repetition == -1 && python) one.calls = calls_a_turn(both);
        if (repetition < 0) continue;
        one.forward.milliseconds.push_back(forward);
        one.both.milliseconds.push_back(both);
        if (python && python->has(one.variant->name)) python->call(one);
      }
    for (const auto& one : cases) {
      rows.push_back(row_of(one, peak));
      auto& of = curves[one.variant->name];
      of.time.lengths.push_back(static_cast<double>(length));
      of.time.milliseconds.push_back(one.both.milliseconds);
      of.peak_bytes.push_back(static_cast<double>(one.peak_bytes));
    }
  }
  if (rows.empty() && !left_out.empty())
    throw ConfigError(fmt::format("{} at length {}: {}", left_out[0]["variant"].get<std::string>(),
                                  left_out[0]["length"].dump(), left_out[0]["reason"].get<std::string>()));
  Json by_variant = Json::array();
  const auto baseline = curves.find("softmax");
  for (const auto* variant : variants)
    by_variant.push_back(
        summary(*variant, curves[variant->name], baseline == curves.end() ? nullptr : &baseline->second));
  Json result = {{"threads", bench.threads},
                 {"dtype", bench.dtype},
                 {"clock", bench.clock},
                 {"shape",
                  {{"batch", bench.batch},
                   {"num_heads", bench.num_heads},
                   {"head_dim", bench.head_dim},
                   {"causal", bench.causal}}},
                 {"gemm_gflops", peak},
                 {"kernels", kernels_in_use()},
                 {"allocator", allocator_in_use()},
                 {"rows", std::move(rows)},
                 {"left_out", std::move(left_out)},
                 {"variants", std::move(by_variant)}};
  if (python) result["python"] = python->about();
  return result;
}

}  // namespace attnscale

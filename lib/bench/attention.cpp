#include "bench/attention.h"

#include <algorithm>
#include <memory>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "attention/registry.h"
#include "bench/timing.h"
#include "core/nearest.h"

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
  Timing forward, both;
  Cost cost;

  void run_forward() {
    const torch::NoGradGuard guard;
    attention->forward(inputs);
  }
  void run_both() {
    for (auto* tensor : {&inputs.query, &inputs.key, &inputs.value, &inputs.hidden})
      if (tensor->defined()) tensor->mutable_grad() = Tensor();
    attention->forward(inputs).backward(upstream);
  }
};

Case make_case(const AttentionBench& bench, const VariantInfo& variant, int64_t length, torch::ScalarType dtype) {
  const Geometry geometry{.num_heads = bench.num_heads,
                          .num_kv_heads = bench.num_heads,
                          .head_dim = bench.head_dim,
                          .value_dim = bench.head_dim,
                          .context = length,
                          .causal = bench.causal,
                          .model_dim = bench.num_heads * bench.head_dim};
  const Json options = variant.resolve(Json::object());
  if (const auto reasons = refusals(variant, options, geometry); !reasons.empty())
    throw ConfigError(fmt::format("{} at length {}: {}", variant.name, length, reasons.front()));
  Case result{&variant, length, variant.make(options, geometry), {}, {}, {}, {}, {}};
  result.attention->to(dtype);
  const bool owns = variant.traits.contains(Trait::owns_projections);
  const int64_t heads = owns ? 1 : bench.num_heads, width = owns ? geometry.model_dim : bench.head_dim;
  const auto tensor = [&] { return torch::randn({bench.batch, heads, length, width}).to(dtype); };
  auto& in = result.inputs;
  if (owns) in.hidden = tensor().set_requires_grad(true);
  else
    for (auto* of : {&in.query, &in.key, &in.value}) *of = tensor().set_requires_grad(true);
  for (const auto& gate : variant.gates(options, geometry))
    in.gates[gate.name] = torch::randn({bench.batch, bench.num_heads, length, gate.width}).to(dtype);
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

double gemm_gflops(torch::ScalarType dtype) {
  constexpr int64_t size = 512;
  const auto a = torch::randn({size, size}).to(dtype), b = torch::randn({size, size}).to(dtype);
  const auto timing = measure([&] { at::mm(a, b); }, 3, 15);
  return 2.0 * size * size * size / timing.minimum() * 1e-6;
}

Json bench_attention(const AttentionBench& bench) {
  const auto dtype = scalar_type_named(bench.dtype);
  at::set_num_threads(bench.threads);
  std::vector<const VariantInfo*> variants;
  for (const auto& name : bench.variants) variants.push_back(&variant_named(name));
  if (variants.empty())
    for (const auto& variant : all_variants()) variants.push_back(&variant);
  const double peak = gemm_gflops(dtype);
  Json rows = Json::array();
  for (const auto length : bench.lengths) {
    std::vector<Case> cases;
    for (const auto* variant : variants) cases.push_back(make_case(bench, *variant, length, dtype));
    for (int repetition = -bench.warmup; repetition < bench.repetitions; ++repetition)
      for (auto& one : cases) {
        const auto forward = measure([&] { one.run_forward(); }, 0, 1);
        const auto both = measure([&] { one.run_both(); }, 0, 1);
        if (repetition < 0) continue;
        one.forward.milliseconds.push_back(forward.milliseconds[0]);
        one.both.milliseconds.push_back(both.milliseconds[0]);
      }
    for (const auto& one : cases) {
      const double gflops = 3 * one.cost.executed_flops / one.both.median() * 1e-6;
      rows.push_back({{"variant", one.variant->name},
                      {"length", length},
                      {"forward_ms", one.forward.to_json()},
                      {"forward_backward_ms", one.both.to_json()},
                      {"executed_flops", one.cost.executed_flops},
                      {"gflops", gflops},
                      {"of_gemm_peak", gflops / peak},
                      {"state_bytes", one.cost.state_bytes}});
    }
  }
  return {{"threads", bench.threads},
          {"dtype", bench.dtype},
          {"shape",
           {{"batch", bench.batch},
            {"num_heads", bench.num_heads},
            {"head_dim", bench.head_dim},
            {"causal", bench.causal}}},
          {"gemm_gflops", peak},
          {"rows", std::move(rows)}};
}

}  // namespace attnscale

#pragma once

#include <string>
#include <vector>

#include <torch/types.h>

#include "bench/timing.h"
#include "core/json.h"

namespace attnscale {

struct AttentionBench {
  std::vector<std::string> variants;  ///< all when empty
  std::vector<int64_t> lengths = {512, 2048};
  int64_t batch = 1, num_heads = 4, head_dim = 64;
  std::string dtype = "float32";
  bool causal = true;
  int threads = 1;
  int warmup = 1, repetitions = 5;
  std::string clock = "wall";  ///< or processor (one thread only): steadier where other work runs beside
  double most_seconds = 60;    ///< a call expected to take longer is left out, with a word
  /// An interpreter that has torch: softmax is compared with its scaled_dot_product_attention, linear with the plain
  /// chunked form (chunks of 64 or 128, whichever is faster at the length), sliding_window with local-attention and
  /// performer with performer-pytorch where those are installed (lib/bench/attention_peer.py), one pass after each of
  /// ours. Empty: no comparison.
  std::string python;
};

/// Forward and backward of each variant with its defaults, interleaved: every repetition times all variants once, so
/// that a machine that slows down slows all of them. What a variant needs at a length is foreseen from its cost and
/// from its time at the length before: where that exceeds this machine's free memory or `most_seconds`, the row is left
/// out.
///
/// A variant that owns its projections is timed with them, which others leave to the mixer: `with_projections`.
///
/// @return {threads, dtype, clock, shape, gemm_gflops, kernels, allocator,
///          rows: [{variant, family, with_projections, length, forward_ms, forward_backward_ms (each median, minimum,
///          maximum),
///                  executed_flops (forward), computed_flops, calls_per_turn (1 without a comparison), gflops,
///                  of_gemm_peak, peak_bytes, state_bytes}],
///          (rows that Python has too: python: {forward_backward_ms, times_slower: {median, low, high, confidence},
///           way (which of several ways, the fastest there; empty where there is one)}),
///          left_out: [{variant, length, reason}], python: {torch, forms, left_out: [{variant, reason}]},
///          variants: [{variant, family, with_projections, growth: {from, to, time, memory}, exponent: {time,
///                      memory}, crossover}]};
///         executed_flops by the convention of `FlopCounter`, computed_flops of both passes as they were multiplied
///         (`computed_flops`: a causal mask leaves about half); gflops are of computed_flops; peak_bytes is what
///         forward and backward need on top of inputs and parameters, the kernels' own memory included; growth is the
///         factor per doubling at the long end, of the medians; exponent is x in time or memory ~ T^x over all lengths,
///         by least squares; crossover is from which length on the variant is faster than softmax (`Crossover`), where
///         softmax was timed
/// @throws ConfigError for an unknown variant or one that cannot stand at these sizes
Json bench_attention(const AttentionBench& bench);

/// @throws ConfigError with the nearest known name
torch::ScalarType scalar_type_named(const std::string& dtype);

/// GFLOP/s of a square matrix product of a size that caches hold, the best of several, by LibTorch or by this program's
/// kernel: what this machine reaches with these threads in this dtype.
/// @param clock  that of what is compared with it
double gemm_gflops(torch::ScalarType dtype, Clock clock);

}  // namespace attnscale

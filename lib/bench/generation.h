#pragma once

#include <string>
#include <vector>

#include "train/run_config.h"

namespace attnscale {

struct GenerationBench {
  int threads = 1;
  std::vector<int64_t> lengths = {1000};  ///< tokens that the text has before those that are timed, ascending
  int64_t tokens = 32;                    ///< of a repetition, which follow those of the one before
  int warmup = 1, repetitions = 7;
  std::string dtype = "float32";  ///< of the weights and the state: or bfloat16, half the memory to read
  std::string clock = "wall";     ///< or processor (one thread only)
  /// An interpreter that has torch: a plain PyTorch model with a cache (lib/bench/generate_peer.py, float32 and
  /// bfloat16) adds as many tokens after each repetition of ours. Empty: no comparison.
  std::string python;
};

/// Decoding of one sequence with a model that knows nothing: the most probable token is added again and again. The text
/// before is read in pieces, untimed.
/// @param config  of which the model and the attention count; its context grows as needed
/// @return {model, attention, params, threads, dtype, clock, kernels, tokens, rows: [{length, ms_per_token: {median,
/// ..},
///          tokens_per_second, state_bytes, (python: {modes: [{mode, ms_per_token, times_slower}], best})}],
///          (python: {torch, left_out})}
/// @throws ConfigError where the variant does not decode, or PyTorch's script has no twin
Json bench_generation(RunConfig config, const GenerationBench& bench);

}  // namespace attnscale

#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bench/python_peer.h"
#include "bench/timing.h"
#include "data/source.h"
#include "train/run_config.h"

namespace attnscale {

/// Ways in which the PyTorch script trains: operator by operator or compiled, in float32 or under bfloat16 autocast.
inline const std::vector<std::string> python_modes = {"eager float32", "eager bfloat16", "compiled float32",
                                                      "compiled bfloat16"};

struct PythonWork {
  std::string python;              ///< an interpreter that has torch
  std::vector<std::string> modes;  ///< of `python_modes`
  int threads = 1;
  int warmup = 0;  ///< steps of each mode before its first that is asked for
  std::string clock = "wall";
  std::filesystem::path weights = {};  ///< safetensors of our model to start from; empty: its own
  /// Where compiled code is kept for later processes and found again (TORCHINDUCTOR_CACHE_DIR); empty: where it always
  /// is.
  std::filesystem::path compiled = {};
};

/// @throws ConfigError for a config that the scripts' GPT does not have the same work for
void check_script_has_twin(const RunConfig& config);

/// A plain PyTorch training loop (lib/bench/peer.py) in another process, which does nothing between two calls.
class PythonTraining {
 public:
  /// @throws ConfigError where the script has no twin of this config, an unknown mode, or Python does not answer
  PythonTraining(const RunConfig& config, const PythonWork& work);

  /// Those that work, of those that were asked for; at least one.
  const std::vector<std::string>& modes() const { return modes_; }
  std::string torch() const { return about_["torch"]; }
  const Json& left_out() const { return about_["left_out"]; }  ///< [{mode, reason}]

  /// Makes `steps` on random tokens. @return its milliseconds
  double train(const std::string& mode, int64_t steps = 1);

  /// One step on our data. @return the loss before the update
  double train_on(const std::string& mode, const Batch& batch, double learning_rate);

  /// What the process held at most, bytes. The last call.
  int64_t peak_memory_bytes();

 private:
  PythonPeer peer_;
  Json about_;
  std::vector<std::string> modes_;
};

}  // namespace attnscale

#pragma once

#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "core/json.h"

namespace attnscale {

/// Everything a run needs to go on to the same bits.
struct Checkpoint {
  int64_t step = 0;       ///< updates done
  int64_t log_lines = 0;  ///< lines of log.jsonl at that point; later ones are dropped on resume
  std::string config_id;
  TensorMap model;         ///< by parameter name
  TensorMap optimizer;     ///< as Optimizer::state
  TensorMap average = {};  ///< as Stepper::evaluated_weights
  Json state = Json::object();
  std::vector<std::string> passed_over = {};  ///< set by reading: why newer ones were not used
};

/// Whether a checkpoint is whole: its manifest, and every file's SHA-256. Nothing is loaded.
/// @param folder  checkpoint/step-<n>  @return its manifest
/// @throws DataError naming the damaged file, ConfigError (JSON), IoError
Json check_checkpoint(const std::filesystem::path& folder);

/// Writes `folder/step-<n>/{model.safetensors, optimizer.safetensors, state.json, manifest.json}`, and
/// `average.safetensors` where an average is kept: into a temporary folder, each file synced, then renamed. When the
/// new one has been read back and its hashes hold, all but it and the one before are removed, so that damage found
/// later still leaves a good one.
/// @param previous  step of the one before: written or read by this process, hence known to be good
/// @param stage     of the lease on the run (core/lease.h), where it is made and what is removed goes; empty: `folder`
/// @throws IoError (disk full, read-only), LeaseLost; what was there before is then untouched
void write_checkpoint(const std::filesystem::path& folder, const Checkpoint& checkpoint,
                      std::optional<int64_t> previous = std::nullopt, const std::filesystem::path& stage = {});

/// The newest checkpoint whose every file has the SHA-256 of its manifest and whose lines the log still has; nothing if
/// there never was one. Bad ones are passed over, and the result says why.
/// @param log_lines  complete lines of log.jsonl
/// @param repair     what the error asks for
/// @throws DataError if there are checkpoints and all are bad: starting afresh would hide the loss
std::optional<Checkpoint> read_checkpoint(const std::filesystem::path& folder,
                                          int64_t log_lines = std::numeric_limits<int64_t>::max(),
                                          const std::string& repair = "remove the folder to start this run afresh");

/// Removes all but the one of this step, when a run is done.
void keep_only_checkpoint(const std::filesystem::path& folder, int64_t step, const std::filesystem::path& stage = {});

/// What a checkpoint keeps of a model: its parameters and buffers by name, not copied.
TensorMap tensors_of(const torch::nn::Module& model);

/// Refuses tensors that are not those of this model. @param where  the checkpoint, for the message
/// @throws DataError listing missing and unknown names and differing shapes and dtypes
void check_same_tensors(const std::string& where, const TensorMap& stored, const TensorMap& expected);

/// Copies values by name; the maps have passed `check_same_tensors`.
void copy_tensors(const TensorMap& from, const TensorMap& into);

}  // namespace attnscale

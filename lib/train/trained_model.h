#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/transformer.h"
#include "train/run_config.h"

namespace attnscale {

/// A model with the weights of a checkpoint, or their average where the run keeps one, in evaluation mode.
struct TrainedModel {
  RunConfig config;
  std::filesystem::path folder;  ///< the run's
  int64_t step = 0;              ///< updates that the weights have seen
  std::shared_ptr<const Source> source;
  std::unique_ptr<Transformer> model;
};

/// @param path  a run's folder (config.json and checkpoint/), its checkpoint folder, or a results folder with one run
/// @param data_path  replaces data.path of the configuration; empty: as trained
/// @throws DataError (no run there, several, no checkpoint, weights or data of another run), IoError
TrainedModel load_trained_model(const std::filesystem::path& path, const std::string& data_path = "");

struct GenerateOptions {
  int64_t count = 0;       ///< tokens to add, at least 1
  double temperature = 1;  ///< 0: the most probable token each time
  int64_t top_k = 0;       ///< draw among the k most probable; 0: among all
  uint64_t seed = 0;       ///< with a token's position it names the token's draw, in one go or in parts
};

struct Generated {
  std::vector<int64_t> tokens = {};  ///< those that were added
  bool with_state = false;           ///< decoded with a state, or the whole text anew for each token
  int64_t state_bytes = 0;           ///< at the end, for this one sequence
  double seconds = 0;                ///< of adding tokens, the prompt's reading left out
};

/// A text that is being generated: what the model has absorbed, and the tokens that it has still to read.
struct Continuation {
  ModelState state;
  std::vector<int64_t> unread = {};
};

/// Whether every layer's variant can decode by a state.
bool decodes(const AttentionChoice& attention);

/// Continues a prompt. Decodes with a state where every layer's variant can, otherwise by a forward pass for each
/// token.
/// @param prompt  at least one token, unless `carried` has some unread
/// @param carried  goes on from it and leaves in it where this ended; only where `decodes`; null: from nothing
/// @throws ConfigError unless the model's head is next_token
/// @throws DataError if prompt and count pass the model's context, or the tensors of `carried` do not fit the model
Generated generate(Transformer& model, const AttentionChoice& attention, int64_t context,
                   const std::vector<int64_t>& prompt, const GenerateOptions& options, Continuation* carried = nullptr);

}  // namespace attnscale

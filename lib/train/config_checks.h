#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/run_config.h"

namespace attnscale {

// The parts of `RunConfig::from_json`, for itself and for ConfigResolver, which does them apart.

/// The section of that name, an empty object if it is left out.
Json section_of(const Json& json, const std::string& name);

/// The sections that are ours; unknown ones are reported with the nearest name.
void check_sections(const Json& json, std::vector<Problem>& problems);

/// Model, attention and data as their sections say.
void read_shape(const Json& json, RunConfig& config, std::vector<Problem>& problems);

/// What a source that was opened says of itself.
struct SourceFacts {
  int64_t vocab_size = 0;
  std::optional<int64_t> validation_windows;  ///< nothing: as many as one likes
  bool asks_some = false;                     ///< targets at places of its own, not all
};

/// Opens the source. @throws Error if it has too little for a window
SourceFacts facts_of(const DataChoice& data);

/// Fills in what the source decides of the model, once model, attention and data fit together.
/// @param facts  `facts_of`, or what it said before
SourceFacts settle_shape(RunConfig& config, std::vector<Problem>& problems,
                         const std::function<SourceFacts(const DataChoice&)>& facts = facts_of);

/// Training by itself and with an unsettled shape.
void check_training(const RunConfig& config, std::vector<Problem>& problems);

/// A validation set that goes around would weigh some tokens twice.
void check_validation(const RunConfig& config, const SourceFacts& facts, std::vector<Problem>& problems);

/// Windows that `initial_context` cuts may not lose what is asked for.
void check_cut(const RunConfig& config, const SourceFacts& facts, std::vector<Problem>& problems);

/// Scoring the end on windows of `eval_context`: not longer than the run's own, answers of tasks, parameters that there
/// are more of in a longer context (learned positions), and a validation set that goes around.
void check_longer_windows(const RunConfig& config, std::vector<Problem>& problems);

/// What is to stay float32 under mixed precision must be 16 bits otherwise. Of a run that nothing else is wrong with.
void check_float32_parts(const RunConfig& config, std::vector<Problem>& problems);

/// @return false after a problem
bool check_vocabulary(const RunConfig& config, const SourceFacts& facts, std::vector<Problem>& problems);

void check_memory(const RunConfig& config, const ModelCost& cost, std::vector<Problem>& problems);

/// The sections as `RunConfig::to_json` writes them.
Json model_section(const RunConfig& config);
Json data_section(const DataChoice& data);

/// What `run_id` hashes of a section: canonical, without what says where a run takes place.
std::string identity_of_data(Json data, const Json& fingerprint);
std::string identity_of_training(Json train);

/// The beginning of what `run_id` hashes, from the canonical texts of a config's parts: the training's and `}` come
/// behind it, and the fingerprint.
std::string run_id_beginning(const std::string& attention, const std::string& data, const std::string& model);

}  // namespace attnscale

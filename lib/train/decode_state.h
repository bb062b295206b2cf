#pragma once

#include <filesystem>

#include "train/trained_model.h"

namespace attnscale {

/// Writes where a generated text stands as safetensors: `layers.<i>.<name>` for each layer's state, in its own dtype;
/// the run, the step, lengths and unread tokens in the header.
/// @throws IoError, DataError
void write_continuation(const std::filesystem::path& file, const Continuation& continuation, const TrainedModel& of);

/// Reads what `write_continuation` wrote for the same run at the same step: going on from it gives the same bits as
/// never having stopped.
/// @throws DataError for a file of another run or step, one that is none, or one whose lengths and sizes do not agree;
/// IoError
Continuation read_continuation(const std::filesystem::path& file, const TrainedModel& of);

}  // namespace attnscale

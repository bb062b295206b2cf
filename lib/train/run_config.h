#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/options.h"
#include "data/source.h"
#include "model/cost.h"
#include "model/options.h"
#include "train/options.h"

namespace attnscale {

struct DataChoice {
  std::string source = "zipf_memory";
  int64_t context = 64;
  Json options = Json::object();  ///< the source's own
};

/// One run, with every default written out: what is hashed, stored and trained.
struct RunConfig {
  ModelOptions model;
  AttentionChoice attention;
  DataChoice data;
  TrainOptions train;

  /// Reads `{model, attention: {variant, ...}, data: {source, context, ...}, train}`, resolves every
  /// default and checks everything that can be known before training (option bounds, head divisibility, variant and
  /// source refusals). Collects all problems by JSON path. Opens the data source only if no problem was found so far.
  static RunConfig from_json(const Json& json, std::vector<Problem>& problems);

  Json to_json() const;

  std::shared_ptr<const Source> open_source() const;  ///< of `data`

  /// First 16 hexadecimal digits of SHA-256 over the canonical JSON and the source's fingerprint. Where a run takes
  /// place does not enter: neither `train.device`, nor the path of a file whose content the fingerprint holds. The same
  /// text in another folder, or on another machine, gives the same id.
  std::string id() const;
};

/// Opened once per process for equal options.
std::shared_ptr<const Source> open_source(const DataChoice& data);

/// Options of `train` that say where a run trains and how it is launched there, not what it is: no part of its id.
inline constexpr const char* where_it_trains[] = {"device", "deterministic", "cuda_graph"};

/// `RunConfig::id` of a configuration as JSON and its source's fingerprint.
std::string run_id(Json config, const Json& fingerprint);

/// What the run's model costs, with the windows of one pass as the batch.
ModelCost cost_of(const RunConfig& config);

/// Estimate of a run's peak memory on the host, bytes: that of a step, in the run's dtype; 0 on another device.
double training_bytes(const TrainOptions& train, const ModelCost& cost);

}  // namespace attnscale

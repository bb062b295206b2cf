#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/options.h"
#include "data/source.h"
#include "model/cost.h"
#include "model/options.h"

namespace attnscale {

struct DataChoice {
  std::string source = "zipf_memory";
  int64_t context = 64;
  Json options = Json::object();  ///< the source's own
};

struct TrainOptions {
  int64_t steps = 1000;
  int64_t batch_size = 16;  ///< windows per step
  double learning_rate = 3e-3;
  double final_learning_rate = 0.1;  ///< at the end of the cosine, as a fraction of learning_rate
  int64_t warmup_steps = 50;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;      ///< decoupled, on matrices only
  double clip_norm = 1.0;         ///< global gradient norm; 0 turns clipping off
  std::string dtype = "float32";  ///< float32, bfloat16 (mixed precision), float64
  std::string device = "cpu";     ///< cpu, cuda; not part of a run's id
  int64_t seed = 0;
  int64_t eval_every = 250;        ///< steps; the end is always evaluated
  int64_t eval_tokens = 65536;     ///< target tokens of the fixed validation set (rounded up to whole batches)
  int64_t checkpoint_every = 500;  ///< steps; 0 writes only the last one

  static const Fields& fields();
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

  /// The source of `data`, opened once per process for equal options.
  std::shared_ptr<const Source> open_source() const;

  /// First 16 hexadecimal digits of SHA-256 over the canonical JSON and the source's fingerprint. Where a run takes
  /// place does not enter: neither `train.device`, nor the path of a file whose content the fingerprint holds. The same
  /// text in another folder, or on another machine, gives the same id.
  std::string id() const;
};

/// Estimate of a run's peak memory on the host, bytes: that of a step, in the run's dtype; 0 on another device.
double training_bytes(const RunConfig& config, const ModelCost& cost);

}  // namespace attnscale

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "train/ramp.h"
#include "train/run_config.h"

namespace attnscale {

/// A run's config with what a plan says of it. Runs of one model, attention and data have these in common.
struct ResolvedRun {
  std::shared_ptr<const RunConfig> shape = {};  ///< model, attention and data; its `train` is nobody's
  TrainOptions train = {};
  std::string id = {};     ///< RunConfig::id
  ModelCost cost = {};     ///< cost_of
  TrainingWork work = {};  ///< of all steps
  double peak_bytes = 0;   ///< training_bytes

  const ModelOptions& model() const { return shape->model; }
  RunConfig config() const;  ///< all of it
};

/// Resolves many configs whose sections repeat, as those of a sweep do: what was read once is not read again, and what
/// runs have in common that differ in their seed alone is not worked out again.
/// A source's data are taken to stay as they are. Cost: some microseconds for a config of known sections.
class ConfigResolver {
 public:
  ConfigResolver();
  ~ConfigResolver();

  /// What `RunConfig::from_json`, `id` and `cost_of` give, or nothing and the same problems.
  std::optional<ResolvedRun> resolve(const Json& json, std::vector<Problem>& problems);

 private:
  struct Data;
  struct Shape;
  struct Training;
  /// Nothing where something is wrong.
  Shape* shape_of(const Json& json);
  const Data& data_of(const DataChoice& choice);
  const Training* training_of(const Json& section, int64_t context);
  bool settle(Shape& shape, const Training& training, std::vector<Problem>& problems);

  static constexpr size_t most_kept = 1 << 14;  ///< then all is forgotten: a bound on memory
  // By the sections' content; of the training's, all but the seed.
  std::unordered_map<std::string, std::unique_ptr<Data>> data_;
  std::unordered_map<std::string, std::unique_ptr<Shape>> shapes_;
  std::unordered_map<std::string, std::unique_ptr<Training>> trainings_;

  // Of the last run.
  const Shape* settled_shape_ = nullptr;
  const Training* settled_training_ = nullptr;
  ResolvedRun settled_;
  RunConfig checked_;
};

}  // namespace attnscale

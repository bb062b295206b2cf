#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/json_paths.h"
#include "scaling/comparison.h"
#include "scaling/statistics.h"

namespace attnscale {

struct CurvePoint {
  double tokens = 0, flops = 0, loss = 0;  ///< validation loss, nats per token
};

/// One row of results.jsonl, as figures and tables read it. What a row lacks stays empty.
struct Run {
  std::string id, status, variant, message, settings;
  std::string cell;  ///< equal for runs that differ in nothing but the seed
  std::optional<double> depth, model_dim, seed, diverged_at;
  std::string task;  ///< config.data, canonical: equal for runs that learn the same thing
  std::optional<double> params, tokens, flops, loss, bayes_loss, excess, seconds;
  std::optional<double> accuracy, chance_accuracy, state_bytes;
  std::vector<CurvePoint> curve;
  std::vector<std::string> flags;  ///< what the trainer found suspicious

  bool done() const { return status == "done" && loss; }
  /// Done and nothing suspicious: what means, fits and comparisons are made of.
  bool sound() const { return done() && flags.empty(); }
};

/// Runs that differ in nothing but the seed.
struct Cell {
  std::string key;  ///< Run::cell of its runs
  std::string variant, settings, task;
  std::optional<double> depth, model_dim, params, tokens, flops, state_bytes;
  size_t runs = 0;                 ///< finished or not
  std::optional<Spread> loss;      ///< over the runs that are done and carry no flag
  std::optional<Spread> excess;    ///< over those that know their truth
  std::optional<Spread> accuracy;  ///< over those whose source asks questions: it knows the accuracy of a guess
  std::string trouble;             ///< `1 diverged, 1 flagged`; empty when all are sound
};

/// A fitted law, as scaling.json holds it: E + A N^-alpha + B D^-beta; absent terms are 0.
struct Law {
  std::string series;   ///< variant, or `all`
  std::string form;     ///< `L(N)`, `L(N,D)`, ...
  bool paired = false;  ///< fitted to the true Bayes loss + paired excess instead of the loss
  bool no_law = false;  ///< the loss does not fall: nothing to quote
  double irreducible = 0, a = 0, alpha = 0, b = 0, beta = 0;
  std::map<std::string, std::pair<double, double>> intervals;  ///< by the name in the file

  double at(double n, double d) const;
};

/// The lowest loss that any model could reach on this data.
struct KnownTruth {
  double loss = 0;  ///< Bayes loss of the validation tokens; else the entropy rate
  std::string name;
  std::string derivation;
};

/// A sweep folder's files, read once.
struct Sweep {
  std::string name;
  Json spec, scaling, certificate;
  Json claims;             ///< claims_report, where the spec has any
  std::vector<Json> rows;  ///< of results.jsonl, sorted as `runs`
  std::vector<Run> runs;   ///< by variant, depth, width, tokens, seed
  std::vector<Cell> cells;
  std::vector<std::string> variants;  ///< softmax first, then by name
  std::vector<Law> laws;
  std::vector<PairedRun> pairs;  ///< as `runs`, for the comparison
  std::optional<KnownTruth> truth;
  size_t planned = 0;              ///< runs that plan.json names; 0 without it
  std::vector<std::string> notes;  ///< what was missing or unreadable, in sentences

  size_t count(const std::string& status) const;
  const Law* law(const std::string& series, const std::string& form, bool paired = false) const;
};

/// Reads spec.json, plan.json, results.jsonl, scaling.json and certificate.json; only results.jsonl must be there.
/// @throws as read_result_rows, which reads the results
Sweep read_sweep(const std::filesystem::path& folder);

}  // namespace attnscale

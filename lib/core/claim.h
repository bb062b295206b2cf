#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/expression.h"
#include "core/json.h"

namespace attnscale {

/// A sentence that a sweep is to decide, as a spec's `claims` holds it:
///
///   {"claim": "bfloat16 reaches float32's loss within 0.5 %",
///    "measure": "loss",                  a formula over a run's columns, as `attnscale runs --columns` takes them
///    "of": "dtype == \"bfloat16\"",      runs that it is about; left out: all
///    "against": "dtype == \"float32\"",  runs that it is compared with; left out: none, the measure itself is meant
///    "as": "ratio",                      of - against (difference, the default) or of / against
///    "tune": "train.learning_rate",      each side at the value that is best by loss; left out: a mean over the sweep
///    "optimum": "train.learning_rate",   log2 of the value at which the measure is least, instead of the measure
///    "along": "log2(model_dim)",         the slope of the measure over this instead of the measure
///    "diverged": "log(vocab_size)",      what a run counts as that diverged; left out: then there is no verdict
///    "above": 0.995, "below": 1.005}     where the number is expected, one of the two at least
struct Claim {
  std::string text, place;  ///< the sentence; and where the claim stands in the spec: `claims[0]`
  Expression measure;
  std::optional<Expression> of = {}, against = {}, along = {}, diverged = {};
  bool ratio = false;
  std::string tune = {}, optimum = {};  ///< config paths; not both
  std::optional<double> above = {}, below = {};
  std::string refused = {};  ///< why it can be judged by no results; empty: it can

  /// `above 0.995 and below 1.005`
  std::string expected() const;
  bool expects(double value) const { return (!above || value > *above) && (!below || value < *below); }

  /// What the spec's schema says of a claim.
  static Json schema();
};

/// @param json  the spec's `claims` @param problems  by place: unknown and missing keys, formulas that cannot be read,
///              bounds that leave nothing
std::vector<Claim> read_claims(const Json& json, std::vector<Problem>& problems);

/// As `read_claims`, where no claim takes another with it: one that cannot be read stands in its place with nothing but
/// its sentence, its place and `refused`. @throws ConfigError if the document's `claims` are no list
std::vector<Claim> readable_claims(const JsonDocument& document);

}  // namespace attnscale

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"

namespace attnscale {

/// When runs of a sweep are ended early because others of their group do better. Runs compete that agree in everything
/// but the paths of `by`; never with another seed, another length, other data or another size of the batch.
///
///   asha    Asynchronous successive halving: Li et al. 2020, MLSys, arXiv:1810.05934. A rung is at `first` steps, at
///           `first` x `reduction`, and so on. Of the two ways to run it, this is the one that stops (Klein et al.
///           2020, arXiv:2003.10865): a run that comes to a rung is decided at once and for good, and goes on if it is
///           among the best floor(n / reduction) of the n that have come there, which is how algorithm 2 chooses those
///           to promote, or if n < `reduction`. No run waits half-trained for others, as promotion has it: a run is one
///           log, written from its first step to its last.
///   median  Golovin et al. 2017 (Vizier), section 3.2.2. At `first` steps and each `every` from there on, a run is
///           ended whose best loss so far is worse than the median, over the runs that have ended and were evaluated at
///           that step, of their mean losses up to it; not before `least` such runs are there.
///
/// Both depend on the order in which runs come, which with several workers depends on the machine: what was decided is
/// kept (sweep/stopping_ledger.h), and is decided once.
struct StoppingRule {
  std::string rule = "asha";
  int64_t first = 0;                  ///< steps
  int64_t reduction = 3;              ///< asha
  std::optional<int64_t> every = {};  ///< median: steps
  int64_t least = 3;                  ///< median: runs
  std::vector<std::string> by = {"train.learning_rate"};

  /// Reads the section `stopping` of a spec; problems are at its paths.
  static StoppingRule from_json(const Json& json, std::vector<Problem>& problems);
  Json to_json() const;
  static Json schema();
  static std::string options_table();  ///< for the docs

  /// The steps below the last at which a run of that length may end, in order.
  std::vector<int64_t> looks(int64_t steps) const;

  /// Whether something is recorded at this step: a look, or with median the end.
  bool records_at(int64_t step, int64_t steps) const;
};

/// What competes is what agrees in this: the config without the paths of `by`, and the rule. 16 hexadecimal digits.
std::string stopping_group(const StoppingRule& rule, Json config);

/// The runs of a group of `count` that go on even if the rule stops as many as it can.
size_t least_that_go_on(const StoppingRule& rule, size_t count);

/// Decides a run at one step, given what was decided in its group before, in order. A pure function.
/// @param evaluations  rows with `step` and `loss` up to this step
/// @return             the decision: `run`, `step`, `goes_on`, and what it was made from: with asha `loss`, `rank` (1
/// is
///                     the best; of equal ones the earlier) and `of`; with median `best`, `mean`, `of` and, if that is
///                     `least` or more, `median`; at the last step `ended`
Json decide_stopping(const StoppingRule& rule, const std::vector<Json>& earlier, const std::string& run, int64_t step,
                     int64_t steps, const std::vector<Json>& evaluations);

/// In words: `rank 4 of 5, the best 1 goes on`.
std::string reason_of(const StoppingRule& rule, const Json& decision);

}  // namespace attnscale

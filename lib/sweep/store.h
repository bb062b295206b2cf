#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "core/files.h"
#include "core/lease.h"
#include "sweep/plan.h"
#include "train/run_result.h"

namespace attnscale {

/// A sweep's folder. A run is done when its `result.json` is there, complete and its own; the table
/// `results.jsonl` is made from those, so that a crash between the two loses nothing. A run that failed or ran out of
/// memory has a `result.json` too, which stays until the run has been done anew.
///
///   spec.json  plan.json  groups.json (of a spec with groups)  results.jsonl  runs/<id>/{config.json, log.jsonl,
///   checkpoint/, result.json}
class Store {
 public:
  /// Opens or creates the folder and takes the lease on its table, if no other process at work here has it: then this
  /// one `leads`. Of the others the plan must be the same; one with another plan, of which this host cannot know
  /// whether it lives, is waited for until it gives a sign of life or its time is over.
  /// @throws IoError, also when a process with another plan is at work in this folder; Error (interrupted) if asked to
  /// stop meanwhile
  Store(std::filesystem::path folder, const Plan& plan, double lease_seconds = 60);

  /// Keeps the spec as given and the plan as resolved; where another leads, they are there.
  void write_plan(const Spec& spec, const Plan& plan);

  bool leads() const { return lease_ != nullptr; }
  std::string leader() const { return watch_.state().holder; }  ///< the one that leads, where this one does not

  /// Takes the lead if the one that had it is gone.
  void try_to_lead();

  /// The same, but waits until it is known: one on another host may give its next sign of life, or none any more.
  /// @param stop  ends the waiting
  void settle_lead(const std::function<bool()>& stop);

  /// Writes a file of the folder. @throws LeaseLost if this one does not lead, IoError
  void write(const std::filesystem::path& file, std::string_view content);

  /// Whether a run has a result by now, this process's or another's, that counts for this sweep: one that decides it,
  /// or a failure of after this store was opened.
  bool look_for(const std::string& id);

  std::filesystem::path run_folder(const std::string& id) const;
  bool is_done(const std::string& id) const;
  bool settles(const Json& row) const { return decides(row, rule_); }  ///< its run, in this sweep

  /// Acknowledges a run: its row goes into the table, and the disk has it. Of a run that failed the `result.json` is
  /// written here, since no trainer did, unless another process has ended the run meanwhile: then its row counts.
  /// @param held  the token of the lease under which the run failed; 0 if it had none
  /// @return false if another process has or had the run since; that one or the next will say how it ends
  bool record(const Json& row, int64_t held = 0);

  /// Rows in plan order, so that the finished table is the same whatever the order of execution. Where another leads,
  /// nothing.
  void finish();

  /// Runs in this folder that the plan does not have; they are kept, and left out of the table.
  int64_t strangers() const { return strangers_; }
  const std::filesystem::path& folder() const { return folder_; }
  const std::map<std::string, Json>& rows() const { return rows_; }

 private:
  std::string table() const;
  /// Waits until this one leads, or follows one with the same plan: `own` are its ids.
  void find_place(const std::set<std::string>& own);
  void lead();
  void write_table();
  /// Leads no more once another has taken that over.
  bool still_leads();
  void append_or_rewrite(const std::string& id);

  std::filesystem::path folder_;
  double lease_seconds_;
  LeaseWatch watch_;
  std::unique_ptr<Lease> lease_;
  std::vector<std::string> order_;
  Json rule_;  ///< for early stopping; null without
  std::map<std::string, Json> rows_;
  std::map<std::string, std::string> old_failures_;  ///< by id: `identity_of` the result when this store was opened
  std::set<std::string> in_table_;
  std::unique_ptr<AppendLog> log_;
  int64_t strangers_ = 0;
};

/// Rows of a plan's runs that are in a folder, by id, without touching it; what is damaged is left out.
enum class Peek { decided, failed_too };
std::map<std::string, Json> peek_results(const std::filesystem::path& folder, const Plan& plan,
                                         Peek which = Peek::decided);

/// What came from another build of the program, a line for each: `12 of 40 runs are done by version 0.1.0, commit abc`;
/// empty if all are this one's.
std::string other_builds_text(const std::map<std::string, Json>& rows, size_t num_runs);

}  // namespace attnscale

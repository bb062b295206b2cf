#include "sweep/fsck.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include <fmt/format.h>

#include "core/files.h"
#include "core/hash.h"
#include "core/lease.h"
#include "sweep/stopping_ledger.h"
#include "train/checkpoint.h"
#include "train/run_config.h"
#include "train/run_result.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

/// Names in a folder, sorted, so that equal folders give equal reports.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  if (!fs::is_directory(folder)) return names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

class Checker {
 public:
  explicit Checker(fs::path folder) : folder_(std::move(folder)) {}

  FsckReport check() {
    if (!fs::is_directory(folder_)) throw IoError(folder_.string() + ": no such folder; expected a sweep's");
    if (!fs::is_directory(folder_ / "runs") && !fs::exists(folder_ / "results.jsonl"))
      throw DataError(folder_.string() + ": neither runs nor results are here; name the folder of a sweep");
    for (const auto* name : {"spec.json", "plan.json", "groups.json", "scaling.json", "certificate.json"})
      if (fs::exists(folder_ / name))
        guarded(folder_ / name,
                fmt::format("remove it; the next sweep{} writes it again",
                            name[0] == 's' && name[1] == 'c' ? " or report" : ""),
                [&] { read_json(folder_ / name); });
    leftovers(folder_);
    for (const auto& id : names_in(folder_ / "runs")) check_run_at_rest(id);
    check_table_at_rest();
    check_ledgers();
    return std::move(report_);
  }

 private:
  void found(const fs::path& place, std::string problem, std::string repair, bool damage = true) {
    report_.findings.push_back({place, std::move(problem), std::move(repair), damage});
  }

  /// Does it; what it refuses is damage. Not being able to read is not.
  template <class Action>
  bool guarded(const fs::path& place, const std::string& repair, Action action) {
    try {
      action();
      return true;
    } catch (const IoError&) {
      throw;
    } catch (const std::exception& error) {  // the JSON library's for a field of another type
      found(place, error.what(), repair);
      return false;
    }
  }

  void leftovers(const fs::path& folder) {
    for (const auto& name : names_in(folder))
      if (name.find(".tmp-") != std::string::npos || name.starts_with("unfinished-") || name.starts_with("claim-"))
        found(folder / name, "was left by a write that was cut short",
              "nothing depends on it; remove it when no sweep is at work here", false);
  }

  /// Unless someone trains it: before, or at the latest when it was looked at, which then says nothing.
  void check_run_at_rest(const std::string& id) {
    ++report_.runs;
    const auto run = folder_ / "runs" / id;
    const auto before = look_at_lease(run);
    if (before.held) return leave_to(before);
    const auto report = report_;
    const auto is_in_motion = [&] {
      const auto now = look_at_lease(run);
      if (!now.held && now.token == before.token) return false;
      report_ = report;
      rows_.erase(id);
      leave_to(now);
      return true;
    };
    try {
      check_run(id);
    } catch (const IoError&) {
      if (!is_in_motion()) throw;
    } catch (const fs::filesystem_error&) {
      if (!is_in_motion()) throw;
    }
    if (report_.findings.size() > report.findings.size()) is_in_motion();
  }

  void leave_to(const LeaseState& lease) {
    ++report_.at_work;
    if (std::find(report_.workers.begin(), report_.workers.end(), lease.holder) == report_.workers.end())
      report_.workers.push_back(lease.holder);
  }

  void check_run(const std::string& id) {
    const auto run = folder_ / "runs" / id;
    const auto again = fmt::format("remove {}; the next sweep does this run again", run.string());
    leftovers(run);
    std::optional<Json> result, config;
    if (const auto file = run / "result.json"; fs::exists(file))
      guarded(file, "run the sweep again: it puts the file aside and does this run again", [&] {
        auto row = read_row(file);
        if (row.at("id") != id) throw DataError(fmt::format("{}: is of run {}", file.string(), row.at("id").dump()));
        result = std::move(row);
      });
    const bool decided = result && decides(*result);
    const bool may_go_on = decided && (*result)["status"] == "stopped";
    if (decided) {
      ++report_.finished;
      rows_[id] = *result;
    } else if (result) rows_[id] = *result;
    if (const auto file = run / "config.json"; fs::exists(file))
      guarded(file, again, [&] { config = checked_config(file, id, result); });
    else if (decided) found(file, "is missing", again);
    const auto lines = check_log(run / "log.jsonl", decided ? &*result : nullptr, again);
    check_checkpoints(run, id, lines, decided);
    const bool rolls_back = config && config->at("train").value("on_divergence", "") == "roll_back";
    check_place_to_go_back_to(run, id, lines, decided && !may_go_on, rolls_back, again);
  }

  /// Its id is a hash over it and the data's fingerprint, which the result holds.
  static Json checked_config(const fs::path& file, const std::string& id, const std::optional<Json>& result) {
    auto config = read_json(file).value;
    if (!config.is_object()) throw DataError(file.string() + ": is no object");
    if (config.value("schema", "") != "attnscale.config/1")
      throw DataError(file.string() + ": schema is not attnscale.config/1; it is of another version, or damaged");
    config.erase("schema");
    if (result && result->contains("config") && (*result)["config"] != config)
      throw DataError(file.string() + ": is not the configuration that the result was made with");
    if (!result || !result->contains("provenance") || !(*result)["provenance"].contains("data")) return config;
    if (const auto now = run_id(config, (*result)["provenance"]["data"]); now != id)
      throw DataError(fmt::format("{}: gives the id {}, not its run's; a value in it was changed", file.string(), now));
    return config;
  }

  /// @return complete lines
  int64_t check_log(const fs::path& file, const Json* result, const std::string& again) {
    if (!fs::exists(file)) {
      if (result != nullptr) found(file, "is missing", again);
      return 0;
    }
    const auto content = read_file(file);
    int64_t line = 0;
    for (size_t at = 0; at < content.size();) {
      const auto end = content.find('\n', at);
      if (end == std::string::npos) {
        found(file, fmt::format("byte {}: the last line is torn", at),
              result ? again : "the next sweep cuts it and goes on from the last checkpoint", result != nullptr);
        return line;
      }
      const auto row = Json::parse(content.begin() + static_cast<std::ptrdiff_t>(at),
                                   content.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
      ++line;
      if (!row.is_object() || !row.contains("step") || !row["step"].is_number_integer()) {
        found(file, fmt::format("line {}, byte {}: is not a row of a log", line, at), again);
        return line;
      }
      at = end + 1;
    }
    if (result == nullptr || !result->at("provenance").contains("log_sha256")) return line;
    if (sha256(content) != result->at("provenance")["log_sha256"])
      found(file, "its SHA-256 is not the one in result.json; a row in it was changed", again);
    return line;
  }

  /// @return whether it is whole; the finding that says why not is the last, its repair empty
  bool check_one_checkpoint(const fs::path& place, const std::string& id, int64_t log_lines) {
    ++report_.checkpoints;
    return guarded(place, "", [&] {
      const auto manifest = check_checkpoint(place);
      if (manifest.at("config") != id) throw DataError(place.string() + ": is of another run");
      if (manifest.at("log_lines").get<int64_t>() > log_lines)
        throw DataError(fmt::format("{}: knows {} lines of log.jsonl, which holds {}; the log was cut afterwards",
                                    place.string(), manifest.at("log_lines").get<int64_t>(), log_lines));
    });
  }

  static std::vector<std::string> steps_in(const fs::path& folder) {
    auto names = names_in(folder);
    std::erase_if(names, [](const std::string& name) { return !name.starts_with("step-"); });
    return names;
  }

  void check_checkpoints(const fs::path& run, const std::string& id, int64_t log_lines, bool decided) {
    const auto folder = run / "checkpoint";
    leftovers(folder);
    std::vector<Finding> bad;
    int64_t good = 0;
    for (const auto& name : steps_in(folder)) {
      if (check_one_checkpoint(folder / name, id, log_lines)) {
        ++good;
        continue;
      }
      bad.push_back(report_.findings.back());
      report_.findings.pop_back();
    }
    for (auto& finding : bad) {
      finding.repair =
          decided ? fmt::format("its results stand, its weights are lost; to have them again remove {}", run.string())
          : good > 0 ? "nothing: the next sweep goes on from the checkpoint before it"
                     : fmt::format("remove {}; the next sweep begins this run anew", run.string());
      report_.findings.push_back(std::move(finding));
    }
  }

  /// Where a run that rolls back finds the checkpoint to go back to; the run's end removes it.
  void check_place_to_go_back_to(const fs::path& run, const std::string& id, int64_t log_lines, bool decided,
                                 bool rolls_back, const std::string& again) {
    const auto folder = run / "roll_back";
    if (!fs::exists(folder)) {
      if (rolls_back && !decided && fs::exists(run / "checkpoint")) found(folder, "is missing", again);
      return;
    }
    if (decided)
      return found(folder, "was left by a run that ended", "nothing depends on it; remove it", /*damage=*/false);
    leftovers(folder);
    for (const auto& name : steps_in(folder))
      if (!check_one_checkpoint(folder / name, id, log_lines)) report_.findings.back().repair = again;
  }

  /// A sweep at work adds rows while they are compared: what it has just written is looked at again.
  void check_table_at_rest() {
    const auto findings = report_.findings;
    for (int look = 0;; ++look) {
      check_table();
      if (report_.findings.size() == findings.size() || look == 5 || !look_at_lease(folder_).held) return;
      report_.findings = findings;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      for (const auto& id : names_in(folder_ / "runs")) try {
          if (auto row = read_row(folder_ / "runs" / id / "result.json"); row.at("id") == id)
            rows_[id] = std::move(row);
        } catch (const std::exception&) {  // has none, or a damaged one, which was said
        }
    }
  }

  /// After the results, which come after the decisions.
  void check_ledgers() {
    const auto folder = folder_ / "stopping";
    std::set<std::string> decided;  // `group run step`
    std::set<std::string> readable;
    for (const auto& group : names_in(folder)) {
      leftovers(folder / group);
      if (const auto file = folder / group / "decisions.json"; fs::exists(file))
        guarded(file, "remove it; runs that come to it from now on are decided anew", [&] {
          const auto ledger = StoppingLedger::read(file);
          if (ledger.group != group) throw DataError(fmt::format("{}: is of group {}", file.string(), ledger.group));
          readable.insert(group);
          for (const auto& one : ledger.decisions)
            if (!one.at("goes_on").get<bool>())
              decided.insert(fmt::format("{} {} {}", group, one.at("run").get<std::string>(), one.at("step").dump()));
        });
    }
    for (const auto& [id, row] : rows_) {
      if (row.value("status", "") != "stopped") continue;
      const auto group = row["stopped"].value("group", "");
      const auto file = folder / group / "decisions.json";
      if (fs::exists(file) && !readable.contains(group)) continue;  // was said
      if (!decided.contains(fmt::format("{} {} {}", group, id, row["stopped"].at("step").dump())))
        found(file,
              fmt::format("{}, by which run {} was stopped early",
                          fs::exists(file) ? "lacks the decision" : "is missing", id),
              fmt::format("remove {}; the next sweep does this run again", (folder_ / "runs" / id).string()));
    }
  }

  /// Every row is that of its run's result.
  void check_table() {
    const auto file = folder_ / "results.jsonl";
    const std::string repair = "run the sweep again: it writes the table anew from the runs";
    if (!fs::exists(file)) {
      if (!rows_.empty()) found(file, "is missing", repair);
      return;
    }
    const auto content = read_file(file);
    int64_t line = 0;
    for (size_t at = 0; at < content.size();) {
      const auto end = std::min(content.find('\n', at), content.size());
      ++line;
      const auto row = Json::parse(content.begin() + static_cast<std::ptrdiff_t>(at),
                                   content.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
      if (end == content.size()) found(file, fmt::format("line {}: is torn", line), repair, false);
      else if (!row.is_object() || !row.contains("id") || !row["id"].is_string())
        found(file, fmt::format("line {}, byte {}: is not a row of results", line, at), repair);
      else if (const auto result = rows_.find(row["id"].get<std::string>()); result == rows_.end())
        found(file, fmt::format("line {}: has no result.json of run {} behind it", line, row["id"].get<std::string>()),
              repair);
      else if (result->second != row)
        found(
            file,
            fmt::format("line {}: differs from {}", line, (folder_ / "runs" / result->first / "result.json").string()),
            repair);
      at = end + 1;
    }
  }

  fs::path folder_;
  FsckReport report_;
  std::map<std::string, Json> rows_;  ///< good results, by id
};

}  // namespace

bool FsckReport::clean() const {
  return std::none_of(findings.begin(), findings.end(), [](const Finding& finding) { return finding.damage; });
}

Json FsckReport::to_json() const {
  Json list = Json::array();
  for (const auto& finding : findings)
    list.push_back({{"place", finding.place.string()},
                    {"problem", finding.problem},
                    {"repair", finding.repair},
                    {"damage", finding.damage}});
  return {{"schema", "attnscale.fsck/1"}, {"clean", clean()},   {"runs", runs},       {"finished", finished},
          {"checkpoints", checkpoints},   {"at_work", at_work}, {"workers", workers}, {"findings", std::move(list)}};
}

FsckReport check_folder(const fs::path& folder) { return Checker(folder).check(); }

}  // namespace attnscale

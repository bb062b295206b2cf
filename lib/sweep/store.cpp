#include "sweep/store.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <set>
#include <thread>
#include <utility>

#include <sys/stat.h>

#include <fmt/format.h>

#include "core/signals.h"
#include "core/version.h"
#include "train/provenance.h"

namespace attnscale {

namespace {

/// The result of a run folder if it is there and belongs to `id`. A damaged one is moved out of the way of the run that
/// is to come, and kept for whoever wants to know what it was.
std::optional<Json> read_result(const std::filesystem::path& run_folder, const std::string& id, const Json& rule) {
  const auto file = run_folder / "result.json";
  if (!std::filesystem::exists(file)) return {};
  std::string problem;
  try {
    Json row = read_row(file);
    if (row["id"] == id) {
      if (!decides(row, rule))
        std::cerr << fmt::format("{}: {}\n", id,
                                 row["status"] == "stopped"
                                     ? "was stopped early by another rule; going on with this run"
                                 : row["status"] == "oom" ? "ran out of memory; doing this run again"
                                                          : "failed before; doing this run again");
      return row;
    }
    problem = file.string() + ": belongs to another run";
  } catch (const Error& error) {
    if (error.code() == ExitCode::io) throw;
    problem = error.what();
  }
  std::cerr << problem << "; doing this run again\n";
  std::filesystem::rename(file, run_folder / "result.json.refused");
  return {};
}

std::string build_of(const Json& row) {
  const auto text = [&](const char* key) {
    const auto found = row["provenance"].find(key);
    return found != row["provenance"].end() && found->is_string() ? found->get<std::string>() : "unknown";
  };
  return fmt::format("version {}, commit {}", text("version"), text("commit"));
}

}  // namespace

std::map<std::string, Json> peek_results(const std::filesystem::path& folder, const Plan& plan, Peek which) {
  std::map<std::string, Json> rows;
  const auto rule = plan.rule();
  if (!std::filesystem::is_directory(folder / "runs")) return rows;
  for (const auto& run : plan.runs) {
    const auto file = folder / "runs" / run.id / "result.json";
    if (!std::filesystem::exists(file)) continue;
    try {
      if (Json row = read_row(file); row["id"] == run.id && (which == Peek::failed_too || decides(row, rule)))
        rows[run.id] = std::move(row);
    } catch (const Error&) {  // the sweep that opens the folder says what is wrong
    }
  }
  return rows;
}

std::string other_builds_text(const std::map<std::string, Json>& rows, size_t num_runs) {
  const auto here = fmt::format("version {}, commit {}", version, build_commit());
  std::map<std::string, int64_t> count;
  for (const auto& [id, row] : rows)
    if (decides(row)) ++count[build_of(row)];
  std::string text;
  for (const auto& [build, runs] : count)
    if (build != here)
      text += fmt::format("{} of {} runs are done by {} (this is {}): kept as they are; another --out does them anew\n",
                          runs, num_runs, build, here);
  return text;
}

namespace {

/// Whether the plan that is in a folder, once its leader has written it, has these runs and this rule for stopping.
bool has_plan(const std::filesystem::path& folder, const std::set<std::string>& runs, const Json& rule) {
  if (!std::filesystem::exists(folder / "plan.json")) return false;
  std::set<std::string> ids;
  const auto document = read_json(folder / "plan.json");
  for (const auto& run : document.value.at("runs")) ids.insert(run.at("id").get<std::string>());
  return ids == runs && document.value.value("stopping", Json()) == rule;
}

/// A file's content, and which file it is: one that was written anew in the same words is another.
std::string identity_of(const std::filesystem::path& file) {
  auto identity = read_file(file);
  struct stat status {};
  if (::stat(file.c_str(), &status) == 0)
    identity += fmt::format("\n{} {}.{:09}", status.st_ino, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  return identity;
}

/// Workers of a sweep that was just killed need a moment to go; a leader that just began, to write its plan.
constexpr auto moment = std::chrono::seconds(5);

}  // namespace

Store::Store(std::filesystem::path folder, const Plan& plan, double lease_seconds)
    : folder_(std::move(folder)), lease_seconds_(lease_seconds), watch_(folder_, lease_seconds), rule_(plan.rule()) {
  make_folder(folder_ / "runs");
  for (const auto& run : plan.runs) order_.push_back(run.id);
  const std::set<std::string> own(order_.begin(), order_.end());
  find_place(own);
  if (leads()) lead();
  else
    for (const auto& [id, row] : peek_results(folder_, plan)) rows_[id] = row;
  for (const auto& id : order_)
    if (const auto file = run_folder(id) / "result.json"; !is_done(id) && std::filesystem::exists(file))
      old_failures_[id] = identity_of(file);
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "runs"))
    if (!own.contains(entry.path().filename().string())) ++strangers_;
}

void Store::find_place(const std::set<std::string>& own) {
  const auto deadline = std::chrono::steady_clock::now() + moment;
  for (bool told = false;; std::this_thread::sleep_for(std::chrono::milliseconds(50))) {
    if (watch_.is_free()) lease_ = Lease::take(folder_, lease_seconds_, watch_.expired());
    if (leads() || has_plan(folder_, own, rule_)) return;
    if (std::chrono::steady_clock::now() <= deadline) continue;
    const auto& holder = watch_.state();
    if (watch_.holder_lives())
      throw IoError(
          fmt::format("{}: another attnscale ({}) is at work in this folder with another plan; wait for it, "
                      "or give --out another folder",
                      folder_.string(), holder.holder));
    if (stop_requested())
      throw Error(folder_.string() + ": stopped while waiting for another attnscale", ExitCode::interrupted);
    if (!std::exchange(told, true))
      std::cerr << fmt::format("{}: {} had another plan here; waiting for its next sign of life, or {:.0f} s without\n",
                               folder_.string(), holder.holder, holder.seconds > 0 ? holder.seconds : lease_seconds_);
  }
}

void Store::lead() {
  for (const auto& id : order_)
    if (auto row = read_result(run_folder(id), id, rule_)) rows_[id] = std::move(*row);
  write_table();
}

void Store::try_to_lead() {
  if (leads() || !watch_.is_free()) return;
  lease_ = Lease::take(folder_, lease_seconds_, watch_.expired());
  if (leads()) write_table();
}

void Store::settle_lead(const std::function<bool()>& stop) {
  bool told = false;
  for (try_to_lead(); !leads() && !watch_.holder_lives() && !stop(); try_to_lead()) {
    if (!std::exchange(told, true))
      std::cerr << fmt::format("{}: waiting to learn whether {}, which keeps the table, still lives\n",
                               folder_.string(), leader());
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

void Store::write(const std::filesystem::path& file, std::string_view content) {
  if (!still_leads())
    throw LeaseLost(fmt::format("{}: another process keeps this folder; nothing was written", file.string()));
  write_file_through(lease_->stage(), file, content);
}

void Store::write_plan(const Spec& spec, const Plan& plan) {
  if (!leads()) return;
  write_file_through(lease_->stage(), folder_ / "spec.json", spec.document.value.dump(2) + "\n");
  write_file_through(lease_->stage(), folder_ / "plan.json", plan.to_json().dump(1) + "\n");
  Json groups = Json::object();
  for (const auto& run : plan.runs)
    for (const auto& group : run.groups) groups[group].push_back(run.id);
  const auto file = folder_ / "groups.json";
  if (!groups.empty())
    write_file_through(lease_->stage(), file,
                       Json{{"schema", "attnscale.groups/1"}, {"groups", std::move(groups)}}.dump() + "\n");
  else if (std::filesystem::exists(file)) remove_through(lease_->stage(), file);
}

bool Store::is_done(const std::string& id) const {
  const auto row = rows_.find(id);
  return row != rows_.end() && settles(row->second);
}

bool Store::look_for(const std::string& id) {
  if (is_done(id)) return true;
  const auto file = run_folder(id) / "result.json";
  if (!std::filesystem::exists(file)) return false;
  if (const auto old = old_failures_.find(id); old != old_failures_.end()) {
    if (identity_of(file) == old->second) return false;
    old_failures_.erase(old);
  }
  try {
    Json row = read_row(file);
    if (row["id"] != id) return false;
    rows_[id] = std::move(row);
    append_or_rewrite(id);
    return true;
  } catch (const Error& error) {
    if (error.code() == ExitCode::io) throw;
    return false;  // damaged: whoever gets the run does it again
  }
}

std::filesystem::path Store::run_folder(const std::string& id) const { return folder_ / "runs" / id; }

bool Store::record(const Json& row, int64_t held) {
  const auto id = row.at("id").get<std::string>();
  if (!decides(row)) {
    make_folder(run_folder(id));
    const auto lease = Lease::take(run_folder(id), lease_seconds_);
    if (!lease) return false;
    if (look_for(id)) return true;  // another was quicker, and may have done what failed here
    if (held != 0 && lease->token() != held + 1) return false;  // and may have saved more of it
    write_file_through(lease->stage(), run_folder(id) / "result.json", row.dump(2) + "\n");
    old_failures_.erase(id);
  }
  rows_[id] = row;
  append_or_rewrite(id);
  return true;
}

bool Store::still_leads() {
  if (lease_ && std::filesystem::exists(lease_->stage())) return true;
  lease_.reset();
  log_.reset();
  return false;
}

void Store::append_or_rewrite(const std::string& id) {
  if (!still_leads()) return;
  if (!in_table_.insert(id).second) return write_table();  // the failure's row goes: one row for each run at any time
  log_->append(rows_.at(id).dump());
  log_->sync();
}

void Store::finish() {
  if (!still_leads()) return;
  for (const auto& id : order_) look_for(id);
  write_table();
}

void Store::write_table() {
  log_.reset();
  in_table_.clear();
  for (const auto& [id, row] : rows_) in_table_.insert(id);
  try {
    write_file_through(lease_->stage(), folder_ / "results.jsonl", table());
  } catch (const LeaseLost&) {
    still_leads();
    return;
  }
  log_ = std::make_unique<AppendLog>(folder_ / "results.jsonl");
}

std::string Store::table() const {
  std::string text;
  for (const auto& id : order_)
    if (const auto row = rows_.find(id); row != rows_.end()) text += row->second.dump() + "\n";
  return text;
}

}  // namespace attnscale

#include "sweep/store.h"

#include <algorithm>
#include <iostream>

#include <fmt/format.h>

#include "core/version.h"
#include "train/provenance.h"
#include "train/run_result.h"

namespace attnscale {

namespace {

/// The result of a run folder if it is there and belongs to `id`. A damaged one is moved out of the way of the run that
/// is to come, and kept for whoever wants to know what it was.
std::optional<Json> read_result(const std::filesystem::path& run_folder, const std::string& id) {
  const auto file = run_folder / "result.json";
  if (!std::filesystem::exists(file)) return {};
  std::string problem;
  try {
    Json row = read_row(file);
    if (row["id"] == id) {
      if (!decides(row))
        std::cerr << fmt::format("{}: {}; doing this run again\n", id,
                                 row["status"] == "oom" ? "ran out of memory" : "failed before");
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

std::map<std::string, Json> peek_results(const std::filesystem::path& folder, const Plan& plan) {
  std::map<std::string, Json> rows;
  if (!std::filesystem::is_directory(folder / "runs")) return rows;
  for (const auto& run : plan.runs) {
    const auto file = folder / "runs" / run.id / "result.json";
    if (!std::filesystem::exists(file)) continue;
    try {
      if (Json row = read_row(file); row["id"] == run.id && decides(row)) rows[run.id] = std::move(row);
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

Store::Store(std::filesystem::path folder, const Plan& plan) : folder_(std::move(folder)) {
  make_folder(folder_ / "runs");
  lock_ = std::make_unique<FileLock>(folder_ / ".lock");
  // Workers of a sweep that was just killed need a moment to go.
  if (!lock_->try_lock(5.0))
    throw IoError(
        fmt::format("{}: another attnscale is at work in this folder; wait for it, or give --out another folder",
                    folder_.string()));
  for (const auto& run : plan.runs) {
    order_.push_back(run.id);
    if (auto row = read_result(run_folder(run.id), run.id)) rows_[run.id] = std::move(*row);
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "runs"))
    if (std::find(order_.begin(), order_.end(), entry.path().filename().string()) == order_.end()) ++strangers_;
  write_file_atomically(folder_ / "results.jsonl", table());
  log_ = std::make_unique<AppendLog>(folder_ / "results.jsonl");
}

void Store::write_plan(const Spec& spec, const Plan& plan) {
  write_file_atomically(folder_ / "spec.json", spec.document.value.dump(2) + "\n");
  write_file_atomically(folder_ / "plan.json", plan.to_json().dump(1) + "\n");
}

bool Store::is_done(const std::string& id) const {
  const auto row = rows_.find(id);
  return row != rows_.end() && decides(row->second);
}

std::filesystem::path Store::run_folder(const std::string& id) const { return folder_ / "runs" / id; }

void Store::record(const Json& row) {
  const auto id = row.at("id").get<std::string>();
  if (!decides(row)) {
    make_folder(run_folder(id));
    write_file_atomically(run_folder(id) / "result.json", row.dump(2) + "\n");
  }
  const bool known = rows_.contains(id);
  rows_[id] = row;
  if (known) return finish();  // the failure's row goes: one row for each run at any time
  log_->append(row.dump());
  log_->sync();
}

void Store::finish() {
  log_.reset();
  write_file_atomically(folder_ / "results.jsonl", table());
  log_ = std::make_unique<AppendLog>(folder_ / "results.jsonl");
}

std::string Store::table() const {
  std::string text;
  for (const auto& id : order_)
    if (const auto row = rows_.find(id); row != rows_.end()) text += row->second.dump() + "\n";
  return text;
}

}  // namespace attnscale

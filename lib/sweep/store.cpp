#include "sweep/store.h"

#include <algorithm>
#include <iostream>

#include <fmt/format.h>

namespace attnscale {

std::optional<Json> read_result(const std::filesystem::path& run_folder, const std::string& id) {
  const auto file = run_folder / "result.json";
  if (!std::filesystem::exists(file)) return {};
  try {
    Json row = read_json(file).value;
    const bool ours = row.is_object() && row.value("id", "") == id;
    const auto status = ours ? row.value("status", "") : "";
    if (status == "done" || status == "diverged") return row;
    std::cerr << fmt::format("{}: {}; doing this run again\n", file.string(),
                             ours ? "ended with status " + status : "belongs to another run");
  } catch (const ConfigError& error) {
    std::cerr << error.what() << "; doing this run again\n";
  }
  // Out of the way of the run that is to come, and kept for whoever wants to know what it was.
  std::filesystem::rename(file, run_folder / "result.json.refused");
  return {};
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

std::filesystem::path Store::run_folder(const std::string& id) const { return folder_ / "runs" / id; }

void Store::record(const Json& row) {
  log_->append(row.dump());
  log_->sync();
  rows_[row.at("id").get<std::string>()] = row;
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

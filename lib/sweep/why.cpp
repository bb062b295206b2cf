#include "sweep/why.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/files.h"
#include "train/run_config.h"
#include "train/run_result.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

/// Leaves of a config by dotted path.
void collect_leaves(const Json& value, const std::string& path, std::map<std::string, Json>& into) {
  if (!value.is_object()) {
    into[path] = value;
    return;
  }
  for (const auto& [key, inside] : value.items()) collect_leaves(inside, join_path(path, key), into);
}
std::map<std::string, Json> leaves_of(const Json& value, const std::string& path = "") {
  std::map<std::string, Json> leaves;
  collect_leaves(value, path, leaves);
  leaves.erase("schema");
  for (const auto* where : where_it_trains) leaves.erase(join_path("train", where));  // is not what the run is
  return leaves;
}

std::string shown(const std::map<std::string, Json>& leaves, const std::string& path) {
  const auto found = leaves.find(path);
  return found == leaves.end() ? "nothing" : found->second.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// `train.steps 100 -> 200, ...`; the data's content where the configs are equal.
std::string changes(const std::map<std::string, Json>& before, const std::map<std::string, Json>& now) {
  std::set<std::string> paths;
  for (const auto* side : {&before, &now})
    for (const auto& [path, value] : *side) paths.insert(path);
  std::vector<std::string> list;
  for (const auto& path : paths)
    if (const auto was = shown(before, path), is = shown(now, path); was != is)
      list.push_back(fmt::format("{} {} -> {}", path, was, is));
  if (list.empty()) return "the content of the data";
  constexpr size_t most = 8;
  const auto more = list.size() > most ? fmt::format(" and {} more", list.size() - most) : "";
  list.resize(std::min(list.size(), most));
  return fmt::format("{}{}", fmt::join(list, ", "), more);
}

struct Stranger {
  std::string id;
  std::map<std::string, Json> leaves;
};

/// Runs of the folder that the plan does not have, with the config they were trained with.
std::vector<Stranger> strangers_in(const fs::path& runs, const std::set<std::string>& planned) {
  std::vector<Stranger> strangers;
  if (!fs::is_directory(runs)) return strangers;
  for (const auto& entry : fs::directory_iterator(runs)) {
    const auto id = entry.path().filename().string();
    if (planned.contains(id) || !fs::exists(entry.path() / "config.json")) continue;
    try {
      strangers.push_back({id, leaves_of(read_json(entry.path() / "config.json").value)});
    } catch (const Error&) {  // nothing can be said about it
    }
  }
  std::sort(strangers.begin(), strangers.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return strangers;
}

/// Whether the stranger stands at this point of the axes.
bool at_same_point(const std::map<std::string, Json>& settings, const std::map<std::string, Json>& stranger) {
  return std::all_of(settings.begin(), settings.end(), [&](const auto& setting) {
    const auto found = stranger.find(setting.first);
    return found != stranger.end() && found->second == setting.second;
  });
}

/// The newest checkpoint's step, as its folder's name says; -1 if there is none.
int64_t newest_step(const fs::path& run) {
  int64_t newest = -1;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(run / "checkpoint", none))
    if (const auto name = entry.path().filename().string(); name.starts_with("step-"))
      newest = std::max(newest, static_cast<int64_t>(std::atoll(name.c_str() + 5)));
  return newest;
}

/// State and reason of a run that has a folder of its own; an empty state: nothing there says anything.
RunReason of_own_folder(const fs::path& run, const std::string& id, const Json& rule) {
  RunReason reason{id, "", "", ""};
  if (const auto file = run / "result.json"; fs::exists(file)) try {
      const Json row = read_row(file);
      if (row.at("id") != id) throw DataError(file.string() + ": belongs to another run");
      if (decides(row) && !decides(row, rule)) {
        reason.state = "unfinished";
        reason.reason = fmt::format("was stopped at step {} by another rule; goes on from there",
                                    row["stopped"]["step"].get<int64_t>());
      } else if (decides(row)) {
        const auto finished = row.value("provenance", Json::object()).value("finished", "");
        reason.state = row["status"] == "stopped" ? "stopped" : "done";
        reason.reason = row["status"] == "stopped" ? row.value("message", "")
                        : row["status"] == "diverged"
                            ? fmt::format("diverged at step {}", row.value("diverged_at", int64_t{0}))
                            : fmt::format("loss {:.4f}", row.at("loss").get<double>());
        if (!finished.empty()) reason.reason += ", " + finished;
      } else {
        reason.state = "failed";
        reason.reason = fmt::format("{}: {}; will be tried again", row.value("status", ""), row.value("message", ""));
      }
      return reason;
    } catch (const Error& error) {
      reason.state = "failed";
      reason.reason = fmt::format("{}; will be done again", error.what());
      return reason;
    }
  if (const auto step = newest_step(run); step >= 0) {
    reason.state = "unfinished";
    reason.reason = fmt::format("goes on from step {}", step);
  } else if (fs::exists(run)) {
    reason.state = "unfinished";
    reason.reason = "was begun, has no checkpoint yet; begins again";
  }
  return reason;
}

}  // namespace

std::vector<RunReason> explain(const fs::path& folder, const Json& plan) {
  std::set<std::string> planned;
  for (const auto& run : plan.at("runs")) planned.insert(run.at("id").get<std::string>());
  const auto strangers = strangers_in(folder / "runs", planned);
  std::vector<RunReason> reasons;
  for (const auto& run : plan.at("runs")) {
    const auto id = run.at("id").get<std::string>();
    auto reason = of_own_folder(folder / "runs" / id, id, plan.value("stopping", Json()));
    if (reason.state.empty()) {
      reason.state = "new";
      reason.reason = "no run with this config is here";
      std::map<std::string, Json> settings;
      for (const auto& [path, value] : run.at("settings").items()) collect_leaves(value, path, settings);
      const auto before = std::find_if(strangers.begin(), strangers.end(),
                                       [&](const auto& one) { return at_same_point(settings, one.leaves); });
      if (before != strangers.end()) {
        reason.state = "changed";
        reason.before = before->id;
        reason.reason = changes(before->leaves, leaves_of(run.at("config")));
      }
    }
    reasons.push_back(std::move(reason));
  }
  return reasons;
}

}  // namespace attnscale

#include <iostream>
#include <map>
#include <optional>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "commands.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/scratch_folder.h"
#include "core/signals.h"
#include "report/run_diff.h"
#include "train/run_result.h"
#include "train/trainer.h"

namespace attnscale {
namespace {

namespace fs = std::filesystem;

struct RerunArguments {
  std::string run, out;
  bool json = false;
};

RunConfig config_of(const fs::path& run) {
  std::vector<Problem> problems;
  const auto document = read_json(run / "config.json");
  auto config = RunConfig::from_json(document.value, problems);
  document.refuse(problems);
  return config;
}

/// SHA-256 of the newest weights; empty where there are none.
std::string weights_hash(const fs::path& run, int64_t steps) {
  const auto file = run / "checkpoint" / fmt::format("step-{}", steps) / "model.safetensors";
  return fs::exists(file) ? sha256_of_file(file) : "";
}

/// What made the two results, where it is not the same: it may explain other bits.
Json other_surroundings(const Json& before, const Json& now) {
  Json differences = Json::object();
  for (const auto* key : {"version", "commit", "compiler", "torch", "cpu", "cpu_capability", "threads", "host"}) {
    const auto was = before.value(key, Json()), is = now.value(key, Json());
    if (was != is) differences[key] = {was, is};
  }
  return differences;
}

/// A folder that goes with its owner, unless it was asked for.
struct RerunFolder {
  std::optional<ScratchFolder> own;
  fs::path path;
  explicit RerunFolder(const std::string& asked) : path(asked) {
    if (asked.empty()) path = own.emplace("rerun").path;
    if (fs::exists(path) && !fs::is_empty(path))
      throw Error(path.string() + ": is not empty; a rerun begins from nothing, name a new folder", ExitCode::usage);
    make_folder(path);
  }
};

/// Ends the rerun of a run that was stopped early where that was; the other runs of its group are not trained again.
class SameEnd : public Referee {
 public:
  explicit SameEnd(const Json& row) : stopped_(row.value("stopped", Json())) {
    if (!stopped_.is_null()) stopped_["message"] = row.value("message", "");
  }
  const Json& rule() const override { return stopped_.is_null() ? stopped_ : stopped_.at("rule"); }
  bool looks_at(int64_t step) const override { return !stopped_.is_null() && stopped_.at("step") == step; }
  Json decide(int64_t, const std::vector<Json>&) override { return stopped_; }

 private:
  Json stopped_;
};

ExitCode rerun(const RerunArguments& arguments) {
  catch_stop_signals();
  const auto run = run_argument(arguments.run);
  const Json before = read_row(run / "result.json");
  if (!decides(before))
    throw DataError(fmt::format("{}: has not ended ({}), so that there is nothing to compare with", run.string(),
                                before["status"].get<std::string>()));
  const auto config = config_of(run);
  const auto id = config.id();
  if (id != run.filename().string())
    throw DataError(
        fmt::format("{}: its configuration and data give run {} here: the data changed, or this build has "
                    "other options; the run cannot be repeated by it",
                    run.string(), id));
  at::set_num_threads(before["provenance"].value("threads", 1));
  const RerunFolder folder(arguments.out);
  SameEnd referee(before);
  RunControl control;
  control.folder = folder.path;
  control.referee = &referee;
  control.stop = stop_requested;
  const Json now = train_run(config, control);
  if (now["status"] == "interrupted") {
    std::cerr << "interrupted: a rerun begins from nothing the next time\n";
    return ExitCode::interrupted;
  }
  const auto step = first_difference_of_logs(run / "log.jsonl", folder.path / "log.jsonl");
  const auto steps = before["steps"].get<int64_t>();
  const auto weights_before = weights_hash(run, steps), weights_now = weights_hash(folder.path, steps);
  const bool weights = weights_before == weights_now;
  const auto lost = weights_before.empty() && !weights_now.empty();
  const bool agree = step < 0 && weights && before["status"] == now["status"];
  const Json surroundings = other_surroundings(before["provenance"], now["provenance"]);
  if (arguments.json) {
    Json report = {{"schema", "attnscale.rerun/1"}, {"run", id}, {"agree", agree}, {"weights_agree", weights}};
    if (lost) report["weights_missing"] = true;
    if (step >= 0) report["logs_part_at"] = step;
    if (before.contains("loss") && now.contains("loss")) report["loss"] = {before["loss"], now["loss"]};
    report["surroundings"] = surroundings;
    print_json(report);
    return agree ? ExitCode::done : ExitCode::run_failed;
  }
  if (agree)
    print(fmt::format("{}: the bits agree: every row of the log{}\n", id,
                      weights_before.empty() ? "" : ", and the final weights"));
  else
    print(fmt::format("{}: {}: {}{}\n", id,
                      lost && step < 0 ? "it cannot be told whether the bits agree" : "the bits differ",
                      step >= 0 ? fmt::format("the logs part at step {}", step) : "the logs are equal",
                      weights ? ""
                      : lost  ? ", the run's final weights are not there any more, so that they cannot be compared"
                              : ", the final weights are others"));
  for (const auto& [key, pair] : surroundings.items())
    print(fmt::format("  {}: {} then, {} now\n", key, pair[0].dump(), pair[1].dump()));
  return agree ? ExitCode::done : ExitCode::run_failed;
}

}  // namespace

void add_rerun(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("rerun", "Trains a finished run once more, apart, and says whether the bits agree");
  auto arguments = std::make_shared<RerunArguments>();
  command->add_option("run", arguments->run, "a run: its folder, or DIR/ID with the first letters of its id")
      ->required();
  command->add_option("--out", arguments->out, "keep what it trains in this new folder (default: nowhere)")
      ->type_name("FOLDER");
  command->add_flag("--json", arguments->json, "one JSON document on standard output");
  command->footer("Example: attnscale rerun results/quickstart/0c5d\nExit status: 0 the bits agree, 1 they do not.");
  command->callback([=, &action] { action = [=] { return rerun(*arguments); }; });
}

}  // namespace attnscale

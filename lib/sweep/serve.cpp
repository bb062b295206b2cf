// The worker process: one line in, one run done, lines out.

#include <cmath>
#include <csignal>
#include <iostream>

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/files.h"
#include "core/lease.h"
#include "core/signals.h"
#include "sweep/stopping_ledger.h"
#include "sweep/worker.h"
#include "train/trainer.h"

namespace attnscale {
namespace {

void send(const Json& message) {
  // Straight to the descriptor: a line is either wholly there or the process is gone.
  const auto line = message.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (written < 0 && errno != EINTR) std::_Exit(1);  // the parent is gone
    if (written > 0) rest.remove_prefix(static_cast<size_t>(written));
  }
}

/// What the libraries print while this run trains goes to the run's own folder.
void redirect_messages(const std::filesystem::path& folder) {
  const int file = ::open((folder / "worker.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) return;
  ::dup2(file, STDERR_FILENO);
  ::close(file);
}

void serve_one(const Json& request) {
  const std::filesystem::path folder = request.at("folder").get<std::string>();
  make_folder(folder);
  auto lease = Lease::take(folder, request.at("lease_seconds"), request.at("expired_lease"));
  if (!lease) return send({{"busy", look_at_lease(folder).holder}});
  send({{"lease", lease->token()}});
  redirect_messages(folder);
  std::vector<Problem> problems;
  const auto config = RunConfig::from_json(request.at("config"), problems);
  if (!problems.empty()) throw ConfigError(problems.front().path + ": " + problems.front().message);
  const auto referee =
      referee_for(request.at("stopping"), config.id(), config.train.steps, request.at("lease_seconds"));
  RunControl control;
  control.folder = folder;
  control.referee = referee.get();
  control.stage = lease->stage();
  control.stop = [&] { return stop_requested() || lease->is_lost(); };
  control.on_progress = [](const Progress& progress) {
    Json fields = {{"step", progress.step}, {"steps", progress.steps}, {"steps_per_second", progress.steps_per_second}};
    if (std::isfinite(progress.loss)) fields["loss"] = progress.loss;
    send({{"progress", std::move(fields)}});
  };
  control.on_note = [](const std::string& text) { send({{"note", text}}); };
  const auto row = train_run(config, control);
  if (row.value("status", "") == "interrupted") check_stage(lease->stage());
  lease.reset();  // the sweep may have something to write about the run
  send({{"result", row}});
}

}  // namespace

int serve_runs(int threads) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  catch_stop_signals();
  at::set_num_threads(threads);
  for (std::string line; std::getline(std::cin, line);) {
    try {
      serve_one(Json::parse(line));
    } catch (const LeaseLost& lost) {
      std::cerr << lost.what() << "\n";  // into the run's worker.log
      send({{"lost", lost.what()}});
    } catch (const Error& error) {
      send({{"error", error.what()}, {"code", static_cast<int>(error.code())}});
    } catch (const std::exception& error) {
      send({{"error", error.what()}, {"code", static_cast<int>(ExitCode::run_failed)}});
    }
    if (stop_requested()) break;
  }
  return 0;
}

}  // namespace attnscale

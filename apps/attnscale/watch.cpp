#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <thread>

#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "commands.h"
#include "core/signals.h"
#include "core/table.h"
#include "sweep/live_view.h"

namespace attnscale {
namespace {

/// A terminal in which the cursor can go up.
bool can_redraw() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) && term && std::string(term) != "dumb" && !std::getenv("NO_COLOR");
}

size_t terminal_height() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 2 ? size.ws_row - 1 : 23;
}

/// Waits, but not after a signal to stop.
void pause_for(double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!stop_requested() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

ExitCode watch(const std::string& folder, double interval, bool once) {
  catch_stop_signals();
  LiveView view(folder);
  const bool redraw = can_redraw() && !once;
  if (interval == 0) interval = redraw ? 1 : 15;
  size_t drawn = 0;
  std::string said;
  while (true) {
    const auto state = view.look();
    // Columns of a terminal; what goes into a file or a pipe is not cut.
    const size_t width = ::isatty(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 1000;
    const auto lines = live_text(state, view.name(), width - 1, redraw || once ? terminal_height() : 1);
    std::string text;
    if (drawn > 0) text = fmt::format("\x1b[{}A", drawn);
    for (const auto& line : lines) text += (redraw ? "\x1b[K" : "") + line + "\n";
    if (redraw) text += "\x1b[J";  // of a longer block before
    if (redraw || text != said) print(text);
    said = text;
    drawn = redraw ? lines.size() : 0;
    const bool ended = state.ended() == state.runs;
    if (ended || once) return ended && state.failed + state.diverged > 0 ? ExitCode::run_failed : ExitCode::done;
    pause_for(interval);
    if (stop_requested()) return ExitCode::interrupted;
  }
}

}  // namespace

void add_watch(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("watch", "Shows a sweep that runs elsewhere, until its runs have ended");
  auto folder = std::make_shared<std::string>();
  auto interval = std::make_shared<double>(0);
  auto once = std::make_shared<bool>(false);
  command->add_option("dir", *folder, "folder of a sweep")->required();
  command->add_option("--interval", *interval, "seconds between looks (default: 1 in a terminal, 15 elsewhere)")
      ->check(CLI::Range(0.1, 86400.0));
  command->add_flag("--once", *once, "look once, print everything, and end");
  command->footer(
      "Example: attnscale watch results/quickstart\n"
      "Exit status: 0 all runs are done, 1 some failed or diverged, 75 stopped before the end.");
  command->callback([=, &action] { action = [=] { return watch(*folder, *interval, *once); }; });
}

}  // namespace attnscale

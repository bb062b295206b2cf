#include "core/signals.h"

#include <atomic>
#include <csignal>

#include <unistd.h>

namespace attnscale {
namespace {

std::atomic<int> stops{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may touch only lock-free atomics");

void on_stop(int signal) {
  const int before = stops.fetch_add(1);
  if (signal == SIGINT && before > 0) _exit(130);
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = on_stop;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2}) sigaction(signal, &action, nullptr);
}

void ignore_write_signals() {
  for (const int signal : {SIGPIPE, SIGXFSZ}) ::signal(signal, SIG_IGN);
}

bool stop_requested() { return stops.load(std::memory_order_relaxed) > 0; }

}  // namespace attnscale

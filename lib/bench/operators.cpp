#include "bench/operators.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include <ATen/record_function.h>

namespace attnscale {
namespace {

struct Sum {
  double ms = 0;
  int64_t calls = 0;
};

std::mutex mutex;
Clock watched_clock = Clock::wall;
std::map<std::string, Sum> sums;

/// An operator that runs now; those that it calls are taken off its time.
struct Open : at::ObserverContext {
  double begin = now_ms(watched_clock);
  double inside = 0;
  Open* outer = nullptr;
};
thread_local Open* innermost = nullptr;

std::unique_ptr<at::ObserverContext> on_enter(const at::RecordFunction&) {
  auto open = std::make_unique<Open>();
  open->outer = innermost;
  innermost = open.get();
  return open;
}

void on_exit(const at::RecordFunction& function, at::ObserverContext* context) {
  auto* open = static_cast<Open*>(context);
  const double ms = now_ms(watched_clock) - open->begin;
  innermost = open->outer;
  if (innermost) innermost->inside += ms;
  const std::lock_guard guard(mutex);
  auto& sum = sums[function.name()];
  sum.ms += ms - open->inside;
  ++sum.calls;
}

}  // namespace

Json operator_times(const std::function<void()>& work, int times, Clock clock) {
  work();
  watched_clock = clock;
  sums.clear();
  const auto handle =
      at::addGlobalCallback(at::RecordFunctionCallback(on_enter, on_exit).scopes({at::RecordScope::FUNCTION}));
  const double begin = now_ms(clock);
  for (int i = 0; i < times; ++i) work();
  const double whole = now_ms(clock) - begin;
  at::removeCallback(handle);
  std::vector<std::pair<std::string, Sum>> order(sums.begin(), sums.end());
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.second.ms > b.second.ms; });
  double known = 0;
  for (const auto& [name, sum] : order) known += sum.ms;
  order.push_back({"rest", {whole - known, times}});
  Json rows = Json::array();
  for (const auto& [name, sum] : order)
    rows.push_back({{"operator", name},
                    {"calls", static_cast<double>(sum.calls) / times},
                    {"ms", sum.ms / times},
                    {"share", sum.ms / whole}});
  return {{"ms", whole / times}, {"operators", std::move(rows)}};
}

}  // namespace attnscale

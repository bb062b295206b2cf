#include "sweep/worker.h"

#include <csignal>
#include <thread>

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Waits for what another process must do first; false if it has not after ten seconds.
template <class Condition>
bool eventually(Condition condition) {
  const auto begin = std::chrono::steady_clock::now();
  while (!condition()) {
    if (seconds_since(begin) > 10) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

}  // namespace

TEST_CASE("worker: a stopped one is known as such, and does not keep its parent from leaving") {
  const auto begin = std::chrono::steady_clock::now();
  {
    Worker worker(ATTNSCALE_PROGRAM, 1);
    CHECK_FALSE(worker.is_stopped());
    REQUIRE(::kill(worker.process(), SIGSTOP) == 0);
    CHECK(eventually([&] { return worker.is_stopped(); }));
  }
  CHECK(seconds_since(begin) < 30);  // five seconds of patience; the rest is for a machine that others use
}

TEST_CASE("worker: one that was killed closes its end, and says by which signal") {
  Worker worker(ATTNSCALE_PROGRAM, 1);
  worker.run_id = "a run";
  worker.kill();
  CHECK(eventually([&] { return worker.read().empty() && worker.closed(); }));
  CHECK(worker.end() == "killed by signal 9 (Killed)");
}

TEST_CASE("worker: a request that it cannot serve is answered with an error and a code") {
  Worker worker(ATTNSCALE_PROGRAM, 1);
  worker.run_id = "a run";
  worker.start("/proc/nowhere", Json::object(), 60, 0);
  std::vector<Json> answers;
  CHECK(eventually([&] {
    for (auto& answer : worker.read()) answers.push_back(answer);
    return !answers.empty();
  }));
  REQUIRE(answers.size() == 1);
  CHECK(answers[0]["code"] == 74);
  CHECK(answers[0]["error"].get<std::string>().find("/proc/nowhere") != std::string::npos);
  worker.run_id.clear();
}

#include "bench/timing.h"

#include <chrono>
#include <cmath>
#include <thread>

#include <catch2/catch_test_macros.hpp>

#include "core/error.h"

using namespace attnscale;

TEST_CASE("timing: the processor's clock stands still while the process sleeps, the wall's does not") {
  const auto sleep = [] { std::this_thread::sleep_for(std::chrono::milliseconds(30)); };
  CHECK(measure(sleep, 0, 1, Clock::wall).minimum() >= 30);
  CHECK(measure(sleep, 0, 1, Clock::processor).minimum() < 15);
  const auto work = [] {
    volatile double sum = 0;
    for (int i = 1; i < 2'000'000; ++i) sum = sum + std::sqrt(i);
  };
  CHECK(measure(work, 0, 1, Clock::processor).minimum() > 0.5);
}

TEST_CASE("timing: untimed calls, then one number for each repetition") {
  int calls = 0;
  const auto timing = measure([&] { ++calls; }, 2, 3);
  CHECK(calls == 5);
  CHECK(timing.milliseconds.size() == 3);
  CHECK(Timing{{3, 1, 2}}.median() == 2);
  CHECK(Timing{{4, 1, 2, 3}}.median() == 2.5);
}

TEST_CASE("timing: a turn beside another program is a tenth of a second of calls, and its time that of one") {
  CHECK(calls_a_turn(260) == 1);
  CHECK(calls_a_turn(100) == 1);
  CHECK(calls_a_turn(1.5) == 67);
  CHECK(calls_a_turn(1e-6) == 1000);
  int calls = 0;
  const auto sleep = [&] {
    ++calls;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  };
  const double begin = now_ms(Clock::wall);
  const double ms = time_of_turn(sleep, 4, Clock::wall);
  CHECK(calls == 4);
  CHECK(ms >= 5);
  CHECK(4 * ms <= now_ms(Clock::wall) - begin);
}

TEST_CASE("timing: a clock's name, or the nearest one") {
  CHECK(clock_named("processor") == Clock::processor);
  CHECK_THROWS_AS(clock_named("procesor"), ConfigError);
}

TEST_CASE("timing: the interval of a median by order statistics, as the tables of the sign test have it") {
  std::vector<double> values;
  for (int i = 10; i >= 1; --i) values.push_back(i);
  // n = 10: between the second and the ninth value, 1 - 22 / 1024 (Conover 1999, table A3: 2 values on either side
  // would be 1 - 112 / 1024).
  const auto ten = median_interval(values);
  CHECK(ten.median == 5.5);
  CHECK(ten.low == 2);
  CHECK(ten.high == 9);
  CHECK(std::abs(ten.confidence - (1 - 22.0 / 1024)) < 1e-12);
  // Fewer than six cannot reach 0.95: all of them, and it says what that gives.
  const auto three = median_interval({3, 1, 2});
  CHECK(three.low == 1);
  CHECK(three.high == 3);
  CHECK(three.confidence == 0.75);
  const auto one = median_interval({7});
  CHECK(one.low == 7);
  CHECK(one.high == 7);
  CHECK(one.confidence == 0);
}

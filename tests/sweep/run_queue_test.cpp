#include "sweep/run_queue.h"

#include <algorithm>
#include <random>
#include <vector>

#include <catch2/catch_test_macros.hpp>

using namespace attnscale;

namespace {

std::vector<int> order_of(const std::vector<int>& works, int workers, bool in_order = false) {
  RunQueue<int> queue(workers, in_order);
  for (const int& work : works) queue.add(work, work);
  std::vector<int> order;
  while (!queue.empty()) order.push_back(queue.take());
  return order;
}

/// When the last of `workers` is done, each of whom takes the next run when it is free.
int end_of(const std::vector<int>& order, int workers) {
  std::vector<int> free_at(static_cast<size_t>(workers), 0);
  for (const int work : order) *std::min_element(free_at.begin(), free_at.end()) += work;
  return *std::max_element(free_at.begin(), free_at.end());
}

}  // namespace

TEST_CASE("run queue: runs leave as they came while many wait, then the longest first") {
  CHECK(order_of({1, 2, 3, 1, 2, 3, 1, 2, 3}, 1) == std::vector{1, 2, 3, 1, 2, 3, 3, 2, 1});
  CHECK(order_of({1, 1, 1, 9}, 2) == std::vector{9, 1, 1, 1});
  CHECK(order_of({3, 1, 2}, 1, /*in_order=*/true) == std::vector{3, 1, 2});
  CHECK(order_of({5, 5, 5}, 4) == std::vector{5, 5, 5});
}

TEST_CASE("run queue: no worker is left alone with a long run") {
  const std::vector<int> sizes = {2, 3, 7, 3, 6, 14};  // four learning rates of each
  std::vector<int> works;
  for (int rate = 0; rate < 4; ++rate) works.insert(works.end(), sizes.begin(), sizes.end());
  CHECK(end_of(works, 2) == 74);
  CHECK(end_of(order_of(works, 2), 2) == 71);  // 70 is half of all
}

TEST_CASE("run queue: each run leaves once, and most plans end sooner") {
  std::mt19937 generator(3);
  int sooner = 0, later = 0;
  for (int plan = 0; plan < 200; ++plan) {
    std::vector<int> works(1 + generator() % 40);
    for (auto& work : works) work = 1 + static_cast<int>(generator() % (plan % 2 == 0 ? 5 : 50));
    const int workers = 1 + static_cast<int>(generator() % 4);
    auto order = order_of(works, workers);
    sooner += end_of(order, workers) < end_of(works, workers);
    later += end_of(order, workers) > end_of(works, workers);
    std::sort(order.begin(), order.end());
    std::sort(works.begin(), works.end());
    CHECK(order == works);
  }
  CAPTURE(sooner, later);
  CHECK(sooner > 100);
  CHECK(later < 10);  // one that is long may have begun early by chance
}

TEST_CASE("run queue: what comes back is waited for again, and a queue can be emptied") {
  const int short_run = 1, long_run = 5;
  RunQueue<int> queue(1, false);
  CHECK(queue.empty());
  queue.add(short_run, 1);
  CHECK(&queue.take() == &short_run);
  queue.add(short_run, 1);
  queue.add(long_run, 5);
  CHECK(queue.size() == 2);
  CHECK(&queue.take() == &long_run);
  queue.clear();
  CHECK(queue.empty());
}

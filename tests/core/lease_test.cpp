#include "core/lease.h"

#include <csignal>
#include <fstream>

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "core/json.h"
#include "scratch_folder.h"

using namespace attnscale;

namespace {

constexpr double long_lease = 60, short_lease = 0.4;

std::filesystem::path owner_of(const Lease& lease) { return lease.stage().parent_path() / "owner.json"; }

/// Makes a lease look as if its holder were of another host, of which one cannot know whether it lives.
void move_to_another_host(const Lease& lease) {
  auto owner = Json::parse(read_file(owner_of(lease)));
  owner["host_key"] = "elsewhere/1";
  owner["host"] = "elsewhere";
  write_file_atomically(owner_of(lease), owner.dump());
}

bool becomes_free(LeaseWatch& watch, double within_seconds) {
  for (double waited = 0; waited < within_seconds; waited += 0.02) {
    if (watch.is_free()) return true;
    ::usleep(20'000);
  }
  return false;
}

}  // namespace

TEST_CASE("lease: one holds it, gives it back, and the next token is higher") {
  const ScratchFolder folder;
  auto first = Lease::take(folder.path, long_lease);
  REQUIRE(first);
  CHECK_FALSE(Lease::take(folder.path, long_lease));
  CHECK(look_at_lease(folder.path).held);
  CHECK(look_at_lease(folder.path).holder.find("process " + std::to_string(::getpid())) != std::string::npos);
  first.reset();
  CHECK_FALSE(look_at_lease(folder.path).held);
  const auto second = Lease::take(folder.path, long_lease);
  REQUIRE(second);
  CHECK(second->token() == 2);
}

TEST_CASE("lease: of many processes that ask at once exactly one gets it") {
  const ScratchFolder folder;
  constexpr int processes = 16;
  for (int round = 1; round <= 5; ++round) {
    int gate[2];
    REQUIRE(::pipe(gate) == 0);
    std::vector<pid_t> children;
    for (int i = 0; i < processes; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        char byte;
        ::close(gate[1]);
        if (::read(gate[0], &byte, 1) != 0) ::_exit(2);  // all begin when the parent closes its end
        auto lease = Lease::take(folder.path, long_lease);
        if (!lease) ::_exit(0);
        ::usleep(300'000);
        lease.reset();
        ::_exit(1);
      }
      children.push_back(child);
    }
    ::close(gate[0]);
    ::usleep(100'000);
    ::close(gate[1]);
    int holders = 0;
    for (const auto child : children) {
      int status = 0;
      ::waitpid(child, &status, 0);
      REQUIRE(WIFEXITED(status));
      REQUIRE(WEXITSTATUS(status) < 2);
      holders += WEXITSTATUS(status);
    }
    CHECK(holders == 1);
    CHECK(look_at_lease(folder.path).token == round);
  }
}

TEST_CASE("lease: a holder that died on this host is followed at once, also if its number lives again") {
  const ScratchFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    auto lease = Lease::take(folder.path, long_lease);
    ::_exit(lease ? 0 : 1);  // without giving it back
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  REQUIRE(WEXITSTATUS(status) == 0);
  {
    // The number of a process that lives, which began at another time.
    const auto file = folder.path / "lease-1" / "owner.json";
    auto owner = Json::parse(read_file(file));
    owner["process"] = ::getpid();
    owner["process_started"] = owner["process_started"].get<int64_t>() + 1000000;  // later than now
    write_file_atomically(file, owner.dump());
  }
  CHECK(Lease::take(folder.path, long_lease));
}

TEST_CASE("lease: a holder on another host is followed only after its time without a sign of life") {
  const ScratchFolder folder;
  const auto first = Lease::take(folder.path, long_lease);  // its next sign comes after 15 s
  move_to_another_host(*first);
  {
    auto owner = Json::parse(read_file(owner_of(*first)));
    owner["seconds"] = short_lease;
    write_file_atomically(owner_of(*first), owner.dump());
  }
  LeaseWatch watch(folder.path, long_lease);
  CHECK_FALSE(watch.is_free());
  CHECK_FALSE(watch.holder_lives());
  CHECK_FALSE(Lease::take(folder.path, long_lease));
  CHECK(becomes_free(watch, 10));
  CHECK(watch.expired() == 1);
  CHECK(Lease::take(folder.path, long_lease, watch.expired()));
}

TEST_CASE("lease: signs of life keep it for any time") {
  const ScratchFolder folder;
  const auto lease = Lease::take(folder.path, 2);
  move_to_another_host(*lease);
  LeaseWatch watch(folder.path, 2);
  CHECK_FALSE(becomes_free(watch, 4));
  CHECK_FALSE(lease->is_lost());
}

TEST_CASE("lease: nothing that the former holder writes, publishes or removes has an effect after a take-over") {
  const ScratchFolder folder;
  const auto first = Lease::take(folder.path, short_lease);
  const auto stage = first->stage();
  const auto result = folder / "result.json";
  write_file_through(stage, result, "first");
  write_file_atomically(stage / "made before", "late");  // all but the rename is done when it falls asleep
  AppendLog log(stage / "log");
  log.append("one");
  log.sync();
  publish(stage, stage / "log", folder / "log");

  const auto second = Lease::take(folder.path, long_lease, 1);
  REQUIRE(second);
  std::filesystem::copy_file(folder / "log", second->stage() / "log");
  publish(second->stage(), second->stage() / "log", folder / "log");

  CHECK_THROWS_AS(publish(stage, stage / "made before", result), LeaseLost);
  CHECK_THROWS_AS(write_file_through(stage, result, "late"), LeaseLost);
  CHECK_THROWS_AS(remove_through(stage, result), LeaseLost);
  log.append("late");
  log.sync();  // into a file that nobody reads
  CHECK(read_file(folder / "log") == "one\n");
  CHECK(read_file(result) == "first");
  for (int i = 0; i < 100 && !first->is_lost(); ++i) ::usleep(20'000);
  CHECK(first->is_lost());
  write_file_through(second->stage(), result, "second");
  CHECK(read_file(result) == "second");
}

TEST_CASE("lease: a former holder cannot write through one that was late in asking, which for a moment has its token") {
  const ScratchFolder folder;
  const auto first = Lease::take(folder.path, long_lease);
  const auto second = Lease::take(folder.path, long_lease, 1);
  REQUIRE(second);
  // What the late one has made before it looks at the other tokens: it saw no lease at all, and 1 is free again.
  make_folder(folder.path / "lease-1" / "stage-of-the-late-one");
  std::filesystem::copy_file(owner_of(*second), folder.path / "lease-1" / "owner.json");
  CHECK_THROWS_AS(write_file_through(first->stage(), folder / "result.json", "late"), LeaseLost);
  CHECK_FALSE(std::filesystem::exists(folder / "result.json"));
  CHECK(look_at_lease(folder.path).token == 2);
}

TEST_CASE("lease: a file system that does not answer for a while takes no lease away, and ends no process") {
  const ScratchFolder folder;
  make_folder(folder / "run");
  const auto lease = Lease::take(folder / "run", short_lease);
  std::filesystem::rename(folder / "run", folder / "away");
  std::filesystem::create_symlink("run", folder / "run");  // ELOOP stands for EIO and ESTALE
  CHECK_THROWS_AS(look_at_lease(folder / "run"), IoError);
  CHECK_THROWS_AS(Lease::take(folder / "run", short_lease), IoError);
  ::usleep(500'000);  // five signs of life
  CHECK_FALSE(lease->is_lost());
  std::filesystem::remove(folder / "run");
  std::filesystem::rename(folder / "away", folder / "run");
  const auto beats = look_at_lease(folder / "run").beats;
  for (int i = 0; i < 500 && look_at_lease(folder / "run").beats == beats; ++i) ::usleep(20'000);
  CHECK(look_at_lease(folder / "run").beats > beats);
  CHECK_FALSE(lease->is_lost());
}

TEST_CASE("lease: who waits for one gets it once its holder gave it back, and is told once whom it waits for") {
  const ScratchFolder folder;
  auto first = Lease::take(folder.path, long_lease);
  int looks = 0, told = 0;
  const auto second = wait_for_lease(
      folder.path, long_lease,
      [&] {
        if (++looks == 3) first.reset();
        return looks > 100;
      },
      [&](const LeaseState& state) { told += state.token == 1; });
  REQUIRE(second);
  CHECK(second->token() == 2);
  CHECK(told == 1);
  CHECK_FALSE(wait_for_lease(folder.path, long_lease, [n = 0]() mutable { return ++n > 2; }));
}

TEST_CASE("lease: a holder of this host is known to live, one of another after its next sign of life") {
  const ScratchFolder folder;
  const auto lease = Lease::take(folder.path, long_lease);
  LeaseWatch watch(folder.path, long_lease);
  CHECK_FALSE(watch.is_free());
  CHECK(watch.holder_lives());
  const ScratchFolder other;
  make_folder(other.path / "lease-1");
  const auto sign = [&](int beats) {
    write_file_atomically(other.path / "lease-1" / "owner.json",
                          Json{{"host_key", "elsewhere/1"}, {"beats", beats}, {"seconds", long_lease}}.dump());
  };
  sign(1);
  LeaseWatch from_afar(other.path, long_lease);
  for (int look = 0; look < 2; ++look) {
    CHECK_FALSE(from_afar.is_free());
    CHECK_FALSE(from_afar.holder_lives());
  }
  sign(2);
  CHECK_FALSE(from_afar.is_free());
  CHECK(from_afar.holder_lives());
}

TEST_CASE("lease: an owner that cannot be read holds it until its time is over, and what was left is cleared") {
  const ScratchFolder folder;
  make_folder(folder.path / "lease-7");
  std::ofstream(folder.path / "lease-7" / "owner.json") << "{\"tor";
  LeaseWatch watch(folder.path, short_lease);
  CHECK_FALSE(watch.is_free());
  CHECK(becomes_free(watch, 10));
  const auto lease = Lease::take(folder.path, long_lease, watch.expired());
  REQUIRE(lease);
  CHECK(lease->token() == 8);
  CHECK_FALSE(std::filesystem::exists(folder.path / "lease-7"));
}

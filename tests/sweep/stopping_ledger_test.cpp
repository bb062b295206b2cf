#include "sweep/stopping_ledger.h"

#include <set>
#include <thread>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "core/lease.h"
#include "scratch_folder.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

const StoppingRule asha{.first = 10, .reduction = 2};

Json request_in(const std::filesystem::path& sweep) { return stopping_request(asha.to_json(), "g", sweep); }

std::vector<Json> evaluated(double loss, int64_t step = 10) { return {{{"step", step}, {"loss", loss}}}; }

std::filesystem::path ledger_in(const std::filesystem::path& sweep) {
  return sweep / "stopping" / "g" / "decisions.json";
}

}  // namespace

TEST_CASE("stopping_ledger: without a rule there is no referee") {
  CHECK(stopping_request(Json(), "", "sweep").is_null());
  CHECK(referee_for(nullptr, "a", 100, 60) == nullptr);
}

TEST_CASE("stopping_ledger: what was decided stays, whoever asks and whatever has come since") {
  const ScratchFolder scratch;
  const auto ask = [&](const std::string& run, double loss) {
    return referee_for(request_in(scratch / "sweep"), run, 100, 60)->decide(10, evaluated(loss));
  };
  CHECK(ask("a", 3).is_null());
  CHECK(ask("b", 4)["rank"] == 2);
  const auto first = read_file(ledger_in(scratch / "sweep"));
  CHECK(ask("a", 3).is_null());
  CHECK(ask("a", 9).is_null());  // another machine's bits do not change it
  const auto stopped = ask("b", 4);
  CHECK(read_file(ledger_in(scratch / "sweep")) == first);
  CHECK(stopped["step"] == 10);
  CHECK(stopped["loss"] == 4);
  CHECK(stopped["rung"] == 1);
  CHECK(stopped["of"] == 2);
  CHECK(stopped["group"] == "g");
  CHECK(stopped["rule"] == asha.to_json());
  CHECK(stopped["message"] == "rank 2 of 2 at step 10, where the best 1 go on");
  CHECK(ask("c", 2).is_null());
  CHECK(StoppingLedger::read(ledger_in(scratch / "sweep")).decisions.size() == 3);
}

TEST_CASE("stopping_ledger: of many that come at once each is decided once, and all follow by the rule") {
  const ScratchFolder scratch;
  constexpr int runs = 12;
  std::vector<std::thread> threads;
  for (int i = 0; i < runs; ++i)
    threads.emplace_back([&, i] {
      for (const int64_t step : {10, 20})
        referee_for(request_in(scratch / "sweep"), std::to_string(i), 100, 60)
            ->decide(step, evaluated((i * 7) % runs, step));
    });
  for (auto& thread : threads) thread.join();
  const auto ledger = StoppingLedger::read(ledger_in(scratch / "sweep"));
  std::set<std::pair<std::string, int64_t>> seen;
  for (const auto& decision : ledger.decisions)
    seen.emplace(decision["run"].get<std::string>(), decision["step"].get<int64_t>());
  CHECK(ledger.decisions.size() == 2 * runs);
  CHECK(seen.size() == 2 * runs);
}

TEST_CASE("stopping_ledger: one that holds the group and has died is followed, and what it had decided stands") {
  const ScratchFolder scratch;
  const auto folder = scratch / "sweep" / "stopping" / "g";
  referee_for(request_in(scratch / "sweep"), "a", 100, 60)->decide(10, evaluated(1));
  // A holder of this host whose process is gone, as a kill in the middle of a decision leaves it.
  const auto left = folder / "lease-9";
  make_folder(left);
  auto owner = Json::parse(read_file(folder / "lease-1" / "owner.json"));
  owner.erase("released");
  owner["process_started"] = 1;
  write_file_atomically(left / "owner.json", owner.dump());
  write_file_atomically(left / "decisions.json", "torn");
  CHECK(referee_for(request_in(scratch / "sweep"), "b", 100, 60)->decide(10, evaluated(2))["rank"] == 2);
}

TEST_CASE("stopping_ledger: a damaged, an edited and a made-up ledger are refused with the file") {
  const ScratchFolder scratch;
  for (const double loss : {1.0, 2.0, 3.0})
    referee_for(request_in(scratch / "sweep"), std::to_string(loss), 100, 60)->decide(10, evaluated(loss));
  const auto file = ledger_in(scratch / "sweep");
  const auto good = read_file(file);
  const auto said = [&](const std::string& content) {
    write_file_atomically(file, content);
    try {
      StoppingLedger::read(file);
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::bad_input);
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  CHECK(said(good) == "nothing");
  int unnoticed = 0;
  for (size_t at = 0; at < good.size(); at += 7) {
    auto flipped = good;
    flipped[at] = static_cast<char>(flipped[at] ^ 4);
    // Space between values may change without a value changing.
    if (said(flipped) == "nothing" && Json::parse(flipped) != Json::parse(good)) ++unnoticed;
  }
  CHECK(unnoticed == 0);
  CHECK_THAT(said(good.substr(0, good.size() / 2)), ContainsSubstring("decisions.json:"));
  // Sealed again, but no decision of the rule.
  auto ledger = StoppingLedger::read((said(good), file));
  ledger.decisions[2]["goes_on"] = true;
  CHECK_THAT(said(ledger.to_json().dump()), ContainsSubstring("decision 3 does not follow from those before it"));
}

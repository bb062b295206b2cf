#include "bench/peer_source.h"

#include <catch2/catch_test_macros.hpp>

#include "bench/python_peer.h"
#include "python_with_torch.h"

using namespace attnscale;

TEST_CASE("peer source: a script imports what the scripts share") {
  const auto python = python_with_torch();
  if (python.empty()) SKIP("no Python with torch");
  PythonPeer peer(python,
                  with_common_module("from peer_common import answer, first_question, reason\n"
                                     "work, clock = first_question()\n"
                                     "answer({'reason': reason(ValueError('a\\nb')), 'clock': clock.__name__})\n"),
                  1);
  const auto answer = peer.ask({{"threads", 1}, {"clock", "processor"}});
  CHECK(answer["reason"] == "a");
  CHECK(answer["clock"] == "process_time");
}

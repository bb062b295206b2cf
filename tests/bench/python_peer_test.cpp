#include "bench/python_peer.h"

#include <cstdlib>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("python peer: questions are answered in turn, also long ones") {
  PythonPeer peer("python3",
                  "import json, sys\nfor line in sys.stdin: print(json.dumps({'got': json.loads(line)}), flush=True)",
                  1);
  CHECK(peer.ask({{"a", 1}})["got"]["a"] == 1);
  const std::string text(300'000, 'x');
  CHECK(peer.ask({{"text", text}})["got"]["text"] == text);
}

TEST_CASE("python peer: it is told how many threads to use") {
  PythonPeer peer("python3", "import os; input(); print('[' + os.environ['OMP_NUM_THREADS'] + ']', flush=True)", 3);
  CHECK(peer.ask({}) == Json::array({3}));
}

TEST_CASE("python peer: it has the variables that it is given, and this program keeps its own") {
  PythonPeer peer("python3", "import os; input(); print('[\"' + os.environ['ATTNSCALE_OF_PEER'] + '\"]', flush=True)",
                  1, {{"ATTNSCALE_OF_PEER", "a folder"}});
  CHECK(peer.ask({}) == Json::array({"a folder"}));
  CHECK(std::getenv("ATTNSCALE_OF_PEER") == nullptr);
}

TEST_CASE("python peer: one that is missing, ends, fails or babbles is named") {
  const auto said = [](const std::string& python, const std::string& script) -> std::string {
    try {
      PythonPeer(python, script, 1).ask({{"a", 1}});
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "nothing";
  };
  CHECK_THAT(said("no-such-python", ""), ContainsSubstring("no-such-python"));
  CHECK_THAT(said("python3", "input()"), ContainsSubstring("ended without an answer"));
  CHECK_THAT(said("python3", "input(); print('hello', flush=True)"), ContainsSubstring("\"hello\", which is not JSON"));
  CHECK_THAT(said("python3", "input(); print('{\"error\": \"no torch\"}', flush=True)"), ContainsSubstring("no torch"));
}

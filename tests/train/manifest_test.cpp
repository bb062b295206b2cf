#include "train/manifest.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

Json good() {
  return {{"schema", manifest_schema},
          {"step", 20},
          {"config", "abc"},
          {"log_lines", 41},
          {"files", {{"model.safetensors", {{"bytes", 9}, {"sha256", "00"}}}}}};
}

}  // namespace

TEST_CASE("manifest: a sealed one is read back, a changed one is damaged") {
  CHECK(parse_manifest(sealed_manifest(good()).dump(), "m") == sealed_manifest(good()));
  auto changed = sealed_manifest(good());
  changed["step"] = 21;
  CHECK_THROWS_MATCHES(parse_manifest(changed.dump(), "m"), DataError,
                       MessageMatches(ContainsSubstring("its SHA-256 does not hold")));
  CHECK_THROWS_AS(parse_manifest("{\"schema\": 3}", "m"), DataError);
}

TEST_CASE("manifest: behind a good seal every field still has its type, and names stay in the folder") {
  const auto refused = [](const char* path, const Json& value, const char* expected) {
    auto manifest = good();
    manifest[Json::json_pointer(path)] = value;
    CHECK_THROWS_MATCHES(parse_manifest(sealed_manifest(manifest).dump(), "m"), DataError,
                         MessageMatches(ContainsSubstring(expected)));
  };
  refused("/step", -1, "step: expected a count");
  refused("/step", 0.5, "step: expected a count");
  refused("/log_lines", "41", "log_lines: expected a count");
  refused("/config", 7, "config: expected a run's id");
  refused("/files", Json::array(), "files: expected an object");
  refused("/files/model.safetensors", 3, "expected bytes and sha256");
  refused("/files/..~1..~1secret", Json{{"bytes", 1}, {"sha256", "0"}}, "expected the name of a file in this folder");
}

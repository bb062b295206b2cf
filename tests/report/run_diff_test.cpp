#include "report/run_diff.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/files.h"
#include "scratch_folder.h"

using namespace attnscale;

namespace {

void leave_run(const std::filesystem::path& run, const Json& config, const Json& result, const std::string& log) {
  make_folder(run);
  write_file_atomically(run / "config.json", config.dump());
  write_file_atomically(run / "result.json", result.dump());
  write_file_atomically(run / "log.jsonl", log);
}

}  // namespace

TEST_CASE("run diff: config, results and provenance that differ, and the step at which the logs part") {
  ScratchFolder folder;
  const std::string log = "{\"step\":1,\"loss\":2.0}\n{\"step\":2,\"loss\":1.5}\n";
  leave_run(folder / "first", {{"model", {{"depth", 1}, {"bias", true}}}},
            {{"id", "first"}, {"loss", 1.5}, {"steps", 2}, {"provenance", {{"commit", "abc"}, {"started", "x"}}}}, log);
  leave_run(folder / "second", {{"model", {{"depth", 2}, {"bias", true}, {"norm", "n"}}}},
            {{"id", "second"}, {"loss", 1.2}, {"steps", 2}, {"provenance", {{"commit", "def"}, {"started", "y"}}}},
            "{\"step\":1,\"loss\":2.0}\n{\"step\":2,\"loss\":1.2}\n");
  const auto diff = run_diff(folder / "first", folder / "second");
  CHECK(diff["runs"] == Json{"first", "second"});
  CHECK(diff["config"] == Json{{"model.depth", {1, 2}}, {"model.norm", {nullptr, "n"}}});
  CHECK(diff["results"] == Json{{"loss", {1.5, 1.2}}});
  CHECK(diff["provenance"] == Json{{"commit", {"abc", "def"}}});
  CHECK(diff["log"] == Json{{"step", 2}});
  const auto text = run_diff_text(diff, 200);
  CHECK_THAT(text, Catch::Matchers::ContainsSubstring("-0.3 (-20.0 %)"));
  CHECK_THAT(text, Catch::Matchers::ContainsSubstring("logs: part at step 2"));
  const auto same = run_diff(folder / "first", folder / "first");
  CHECK(same["config"].empty());
  CHECK(same["log"] == "equal");
  CHECK_THROWS_AS(run_diff(folder / "first", folder / "absent"), DataError);
}

TEST_CASE("run diff: a log that is the beginning of another parts from it where it ends") {
  ScratchFolder folder;
  write_file_atomically(folder / "a", "{\"step\":1}\n{\"step\":2}\n");
  write_file_atomically(folder / "b", "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
  write_file_atomically(folder / "c", "");
  CHECK(first_difference_of_logs(folder / "a", folder / "b") == 3);
  CHECK(first_difference_of_logs(folder / "b", folder / "a") == 3);
  CHECK(first_difference_of_logs(folder / "c", folder / "a") == 1);
  CHECK(first_difference_of_logs(folder / "a", folder / "a") == -1);
}

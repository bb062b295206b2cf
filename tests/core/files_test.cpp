#include "core/files.h"

#include <sys/stat.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "scratch_folder.h"

using namespace attnscale;

TEST_CASE("files: an atomic write leaves the new content and no temporary file") {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "one");
  write_file_atomically(folder / "a", "two");
  CHECK(read_file(folder / "a") == "two");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);
}

TEST_CASE("files: an error names the file and the system's reason, exit code 74") {
  try {
    read_file("/nonexistent/file");
    FAIL("expected IoError");
  } catch (const IoError& error) {
    CHECK(error.code() == ExitCode::io);
    CHECK_THAT(error.what(), Catch::Matchers::ContainsSubstring("/nonexistent/file") &&
                                 Catch::Matchers::ContainsSubstring("No such file"));
  }
  CHECK_THROWS_AS(write_file_atomically("/proc/nowhere/x", "y"), IoError);
}

TEST_CASE("files: whether a file can be replaced is told before, and leaves all as it was") {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "one");
  check_replaceable(folder / "a");
  check_replaceable(folder / "new");
  CHECK(read_file(folder / "a") == "one");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1);
  CHECK_THROWS_AS(check_replaceable(folder.path), IoError);
  CHECK_THROWS_AS(check_replaceable(folder / "absent" / "a"), IoError);
  CHECK_THROWS_AS(check_replaceable("/proc/nowhere/x"), IoError);
}

TEST_CASE("files: a bounded read takes a regular file of the size, and refuses folders, pipes and devices at once") {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "1234");
  CHECK(read_bounded(folder / "a", 4) == "1234");
  try {
    read_bounded(folder / "a", 3);
    FAIL("expected DataError");
  } catch (const DataError& error) {
    CHECK(error.code() == ExitCode::bad_input);
    CHECK_THAT(error.what(), Catch::Matchers::ContainsSubstring("more than 3 bytes"));
  }
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  for (const auto& [place, kind] : {std::pair<std::filesystem::path, const char*>(folder.path, "a folder"),
                                    {folder / "pipe", "a pipe or a device"},
                                    {"/dev/zero", "a pipe or a device"}})
    CHECK_THROWS_WITH(read_bounded(place, 100), Catch::Matchers::ContainsSubstring(place.string() + ": is " + kind));
}

TEST_CASE("files: complete lines are counted, a torn one is not") {
  const ScratchFolder folder;
  CHECK(count_lines(folder / "absent") == 0);
  write_file_atomically(folder / "log", "a\nb\ntorn");
  CHECK(count_lines(folder / "log") == 2);
}

TEST_CASE("files: a full disk is an error, and the old file stays", "[full]") {
  // /dev/full takes no byte.
  CHECK_THROWS_AS(AppendLog("/dev/full").append(std::string(1 << 17, 'x')), IoError);
}

TEST_CASE("files: a torn last line is cut when a log is opened again, wherever it was torn") {
  const ScratchFolder folder;
  const std::string whole = "{\"step\":1}\n{\"step\":2}\n";
  const std::string torn = "{\"step\":3}";
  for (size_t kept = 0; kept <= torn.size(); ++kept) {
    write_file_atomically(folder / "log", whole + torn.substr(0, kept));
    { AppendLog log(folder / "log"); }
    CHECK(read_file(folder / "log") == whole);
    { AppendLog log(folder / "log"); }
    CHECK(read_file(folder / "log") == whole);
  }
}

TEST_CASE("files: a torn line longer than a block is cut too") {
  const ScratchFolder folder;
  write_file_atomically(folder / "log", "first\n" + std::string(10'000, 'x'));
  AppendLog log(folder / "log");
  log.append("second");
  log.sync();
  CHECK(read_file(folder / "log") == "first\nsecond\n");
}

TEST_CASE("files: a log goes back to a line count and grows from there") {
  const ScratchFolder folder;
  AppendLog log(folder / "log");
  for (const auto* line : {"a", "b", "c"}) log.append(line);
  log.truncate_to(1);
  log.append("d");
  log.sync();
  CHECK(read_file(folder / "log") == "a\nd\n");
  CHECK_THROWS_AS(log.truncate_to(5), DataError);
}

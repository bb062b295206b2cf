#include "sweep/shared_folder.h"

#include <catch2/catch_test_macros.hpp>

#include "core/error.h"
#include "scratch_folder.h"

using namespace attnscale;

TEST_CASE("shared_folder: this machine's file system meets every need, and nothing is left behind") {
  const ScratchFolder scratch;
  const auto report = look_at_folder(scratch.path);
  for (const auto& need : report.needs) {
    INFO(need.what << ": " << need.found);
    CHECK(need.met);
  }
  CHECK(report.needs.size() == 6);
  CHECK(report.good());
  CHECK_FALSE(report.file_system.empty());
  CHECK(std::filesystem::is_empty(scratch.path));
}

TEST_CASE("shared_folder: a folder that is not there, or takes no files, is an input/output error") {
  const ScratchFolder scratch;
  CHECK_THROWS_AS(look_at_folder(scratch / "nowhere"), IoError);
  CHECK_THROWS_AS(look_at_folder("/proc"), IoError);
}

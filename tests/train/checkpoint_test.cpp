#include "train/checkpoint.h"

#include <fstream>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "core/files.h"
#include "scratch_folder.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

Checkpoint checkpoint_at(int64_t step) {
  Checkpoint result;
  result.step = step;
  result.log_lines = 2 * step;
  result.config_id = "abc";
  result.model = {{"w", at::full({2, 3}, static_cast<double>(step))}};
  result.optimizer = {{"w/first_moment", at::zeros({2, 3})}};
  result.state = {{"seconds", 1.5}};
  return result;
}

void flip_bit(const std::filesystem::path& file, size_t byte) {
  auto bytes = read_file(file);
  bytes[byte % bytes.size()] ^= 1;
  write_file_atomically(file, bytes);
}

}  // namespace

TEST_CASE("checkpoint: the newest is read back whole, and none is nothing") {
  const ScratchFolder scratch;
  CHECK_FALSE(read_checkpoint(scratch / "none"));
  write_checkpoint(scratch.path, checkpoint_at(9));
  write_checkpoint(scratch.path, checkpoint_at(10));  // newer by number, not by name
  const auto read = read_checkpoint(scratch.path);
  REQUIRE(read);
  CHECK(read->step == 10);
  CHECK(read->log_lines == 20);
  CHECK(read->config_id == "abc");
  CHECK(at::equal(read->model.at("w"), checkpoint_at(10).model.at("w")));
  CHECK(read->optimizer.contains("w/first_moment"));
  CHECK(read->state == Json{{"seconds", 1.5}});
}

TEST_CASE("checkpoint: the one before is kept, older ones go, a finished run keeps one") {
  const ScratchFolder scratch;
  for (int step = 1; step <= 4; ++step) write_checkpoint(scratch.path, checkpoint_at(step), step - 1);
  CHECK_FALSE(std::filesystem::exists(scratch / "step-2"));
  CHECK(std::filesystem::exists(scratch / "step-3"));
  keep_only_checkpoint(scratch.path, 4);
  CHECK_FALSE(std::filesystem::exists(scratch / "step-3"));
  CHECK(read_checkpoint(scratch.path)->step == 4);
}

TEST_CASE("checkpoint: a bit flipped in any file makes the previous one be used") {
  for (const auto* name : {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"})
    for (const size_t byte : {0U, 41U, 1009U}) {
      INFO(name << " byte " << byte);
      const ScratchFolder scratch;
      write_checkpoint(scratch.path, checkpoint_at(1));
      write_checkpoint(scratch.path, checkpoint_at(2), 1);
      CHECK(read_checkpoint(scratch.path)->step == 2);
      flip_bit(scratch / "step-2" / name, byte);
      CHECK(read_checkpoint(scratch.path)->step == 1);
      write_checkpoint(scratch.path, checkpoint_at(2), 1);  // the rerun gets there again
      CHECK(read_checkpoint(scratch.path)->step == 2);
    }
}

TEST_CASE("checkpoint: a missing file and a changed number in the manifest are damage too") {
  const ScratchFolder scratch;
  write_checkpoint(scratch.path, checkpoint_at(1));
  write_checkpoint(scratch.path, checkpoint_at(2), 1);
  auto manifest = read_json(scratch / "step-2/manifest.json").value;
  manifest["log_lines"] = 5;
  write_file_atomically(scratch / "step-2/manifest.json", manifest.dump());
  CHECK(read_checkpoint(scratch.path)->step == 1);
  write_checkpoint(scratch.path, checkpoint_at(3), 1);
  CHECK(std::filesystem::exists(scratch / "step-1"));  // the good one is kept, not the newer bad one
  std::filesystem::remove(scratch / "step-3/state.json");
  CHECK(read_checkpoint(scratch.path)->step == 1);
  flip_bit(scratch / "step-1/optimizer.safetensors", 77);
  CHECK_THROWS_MATCHES(read_checkpoint(scratch.path), DataError,
                       MessageMatches(ContainsSubstring("no checkpoint can be used") && ContainsSubstring("step-3") &&
                                      ContainsSubstring("step-1")));
}

TEST_CASE("checkpoint: one that knows more lines than the log has is passed over, and the reason is kept") {
  const ScratchFolder scratch;
  write_checkpoint(scratch.path, checkpoint_at(1));
  write_checkpoint(scratch.path, checkpoint_at(2), 1);
  CHECK(read_checkpoint(scratch.path, 4)->step == 2);
  CHECK(read_checkpoint(scratch.path, 4)->passed_over.empty());
  const auto older = read_checkpoint(scratch.path, 3);
  CHECK(older->step == 1);
  REQUIRE(older->passed_over.size() == 1);
  CHECK_THAT(older->passed_over[0], ContainsSubstring("step-2: knows 4 lines of log.jsonl, which holds 3"));
  CHECK_THROWS_MATCHES(read_checkpoint(scratch.path, 1), DataError,
                       MessageMatches(ContainsSubstring("remove the folder to start this run afresh")));
}

TEST_CASE("checkpoint: what an unfinished write left is no checkpoint and goes with the next") {
  const ScratchFolder scratch;
  write_checkpoint(scratch.path, checkpoint_at(1));
  std::filesystem::create_directories(scratch / "unfinished-2");
  write_file_atomically(scratch / "unfinished-2/model.safetensors", "half");
  CHECK(read_checkpoint(scratch.path)->step == 1);
  write_checkpoint(scratch.path, checkpoint_at(2), 1);
  CHECK_FALSE(std::filesystem::exists(scratch / "unfinished-2"));
}

TEST_CASE("checkpoint: another model's tensors are refused with every difference") {
  const TensorMap stored = {{"a", at::zeros({2})}, {"b", at::zeros({2, 2})}, {"extra", at::zeros({1})}};
  const TensorMap expected = {
      {"a", at::zeros({3})}, {"b", at::zeros({2, 2}, at::kDouble)}, {"absent", at::zeros({7, 5})}};
  CHECK_NOTHROW(check_same_tensors("x", stored, stored));
  CHECK_THROWS_MATCHES(
      check_same_tensors("run/checkpoint", stored, expected), DataError,
      MessageMatches(ContainsSubstring("run/checkpoint") && ContainsSubstring("a: Float [2], expected Float [3]") &&
                     ContainsSubstring("b: Float [2, 2], expected Double [2, 2]") &&
                     ContainsSubstring("absent: missing, expected Float [7, 5]") &&
                     ContainsSubstring("extra: Float [1], not in this model")));
}

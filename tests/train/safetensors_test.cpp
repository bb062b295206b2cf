#include "train/safetensors.h"

#include <chrono>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "core/files.h"
#include "scratch_folder.h"
#include "train/safetensors_header.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

std::string file_bytes(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data_bytes, '\1');
}

TensorMap many_kinds() {
  return {{"weight", at::randn({3, 5})},
          {"a", at::arange(7, at::kLong)},
          {"half", at::randn({2, 1, 3}).to(at::kHalf)},
          {"brain", at::randn({4}).to(at::kBFloat16)},
          {"exact", at::randn({2, 2}, at::kDouble)},
          {"flag", at::zeros({3}, at::kBool)},
          {"scalar", at::randn({})},
          {"nothing", at::zeros({0, 4})},
          {"with \"quotes\" and \xC3\xA9", at::arange(3, at::kInt)}};
}

}  // namespace

TEST_CASE("safetensors: what is written is read back, every dtype and shape") {
  const ScratchFolder scratch;
  const auto file = scratch.path / "x.safetensors";
  const auto tensors = many_kinds();
  write_safetensors(file, tensors, {{"schema", "attnscale.test/1"}});
  Metadata metadata;
  const auto read = read_safetensors(file, &metadata);
  CHECK(metadata == Metadata{{"schema", "attnscale.test/1"}});
  REQUIRE(read.size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    INFO(name);
    REQUIRE(read.count(name) == 1);
    CHECK(read.at(name).scalar_type() == tensor.scalar_type());
    CHECK(read.at(name).sizes() == tensor.sizes());
    CHECK(at::equal(read.at(name), tensor));
  }
}

TEST_CASE("safetensors: a transposed view is written in its own order of elements") {
  const ScratchFolder scratch;
  const auto tensor = at::arange(6, at::kFloat).view({2, 3}).t();
  write_safetensors(scratch.path / "t", {{"t", tensor}});
  CHECK(at::equal(read_safetensors(scratch.path / "t").at("t"), tensor));
}

TEST_CASE("safetensors: the data begins at a multiple of eight bytes") {
  for (const auto& name : {"a", "ab", "abc", "abcdefg"}) {
    const auto bytes = safetensors_bytes({{name, at::zeros({1})}});
    CHECK((bytes.size() - 4) % 8 == 0);
  }
}

TEST_CASE("safetensors: a hostile or damaged file is refused with its place and reason") {
  const ScratchFolder scratch;
  const auto file = scratch.path / "bad.safetensors";
  const auto refused = [&](const std::string& bytes, const std::string& reason) {
    write_file_atomically(file, bytes);
    CHECK_THROWS_MATCHES(read_safetensors(file), DataError,
                         MessageMatches(ContainsSubstring(reason) && ContainsSubstring("bad.safetensors")));
  };
  const auto header = [&](const std::string& text, size_t data, const std::string& reason) {
    INFO(text);
    refused(file_bytes(text, data), reason);
  };
  refused("", "at least 8");
  refused(std::string(7, 'x'), "at least 8");
  refused(std::string(8, '\xff'), "are allowed");
  refused(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8), "100000001");  // one more than 100 MB
  refused(std::string("\x40\0\0\0\0\0\0\0{}", 10), "truncated");
  header("", 0, "does not begin");
  header(" {}", 0, "does not begin");
  header("\xEF\xBB\xBF{}", 0, "does not begin");
  header("{} x", 0, "not valid JSON");
  header("{", 0, "not valid JSON");
  header("{\"a\xff\":1}", 0, "not valid JSON");
  header("{/* a comment */}", 0, "not valid JSON");
  header(R"({"a":1})", 0, "expected an object");
  header(R"({"__metadata__":{"a":1}})", 0, "expected a text");
  header(R"({"__metadata__":{"a":"1","a":"2"}})", 0, "duplicate key");
  header(R"({"__metadata__":{},"__metadata__":{}})", 0, "duplicate key");
  header("{}", 3, "3 bytes follow");

  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  write_file_atomically(file, file_bytes("{\"a\":{" + good + "}}", 8));
  CHECK(read_safetensors(file).size() == 1);  // the pattern of what follows is good by itself
  header("{\"a\":{" + good + "}}", 7, "tensor \"a\": ends at byte 8");
  header("{\"a\":{" + good + "}}", 9, "1 bytes follow the last tensor \"a\"");
  header("{\"a\":{" + good + "},\"a\":{" + good + "}}", 8, "duplicate key \"a\"");
  header("{\"a\":{" + good + "},\"b\":{" + good + "}}", 8, "overlaps");
  header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12, "a hole");
  header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "do not fit");
  header(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "needs 12 bytes");
  header(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8, "dtype \"F31\" is not known");
  header(R"({"a":{"dtype":7,"shape":[2],"data_offsets":[0,8]}})", 8, "expected the name of a dtype");
  header(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8, "received the number 2.0");
  header(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, "received the number -2");
  header(R"({"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}})", 8, "received the text");
  header(R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", 8, "received a list");
  header(R"({"a":{"dtype":"F32","shape":{},"data_offsets":[0,8]}})", 8, "received an object");
  header(R"({"a":{"dtype":"F32","shape":null,"data_offsets":[0,8]}})", 8, "received null");
  header(R"({"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}})", 8, "not valid JSON");
  header(R"({"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]}})", 8, "shape");
  header(R"({"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]}})", 8, "the size");
  header(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8, "overflows");
  header(R"({"a":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}})", 0, "overflows");
  header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8, "1 numbers, expected 2");
  header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})", 8, "received the number 8");
  header(R"({"a":{"dtype":"F32","shape":[2]}})", 8, "lacks one of");
  header(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8, "duplicate key \"dtype\"");
  header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})", 8, "unknown key \"more\"");
  header("{\"\x1b[31mred\":{}}", 0, "not valid JSON");
  header(R"({"\u001b[31mred":{}})", 0, R"(tensor "\u001b[31mred")");

  std::string dimensions = "1";
  for (int i = 0; i < 64; ++i) dimensions += ",1";
  header(fmt::format(R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[0,1]}}}})", dimensions), 1, "64 dimensions");
  CHECK_THROWS_AS(read_safetensors(scratch.path), DataError);
  CHECK_THROWS_AS(read_safetensors(scratch.path / "absent"), IoError);
}

TEST_CASE(
    "safetensors: a header of a hundred thousand levels or ten million keys is refused at its first wrong token") {
  const ScratchFolder scratch;
  const auto file = scratch.path / "deep";
  std::string keys = R"({"a":{"dtype":"U8","shape":[0)";
  for (int i = 0; i < 10'000'000; ++i) keys += ",1";
  for (const auto& header :
       {"{\"a\":" + std::string(100'000, '['), "{\"a\":{\"shape\":" + std::string(100'000, '{'), keys}) {
    write_file_atomically(file, file_bytes(header, 0));
    const auto start = std::chrono::steady_clock::now();
    CHECK_THROWS_AS(read_safetensors(file), DataError);
    // The contract is a second; what this costs is reading the file, some milliseconds.
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(1));
  }
}

TEST_CASE("safetensors: the header alone says what the data must be") {
  const std::string text = R"({"b":{"dtype":"F16","shape":[3],"data_offsets":[8,14]},)"
                           R"("a":{"dtype":"F64","shape":[],"data_offsets":[0,8]},"__metadata__":{"step":"2"}})";
  const auto header = parse_safetensors_header(text, 14, "x");
  REQUIRE(header.entries.size() == 2);  // by their place in the data
  CHECK(header.entries[0].name == "a");
  CHECK(safetensors_types()[header.entries[1].type].name == std::string("F16"));
  CHECK(header.entries[1].shape == std::vector<int64_t>{3});
  CHECK(header.metadata.at("step") == "2");
  CHECK_THROWS_AS(parse_safetensors_header(text, 15, "x"), DataError);
  CHECK(safetensors_header_bytes(std::string_view("\5\0\0\0\0\0\0\0", 8), 13, "x") == 5);
  CHECK_THROWS_AS(safetensors_header_bytes(std::string_view("\6\0\0\0\0\0\0\0", 8), 13, "x"), DataError);
}

TEST_CASE("safetensors: every cut of a file is refused") {
  const ScratchFolder scratch;
  const auto file = scratch.path / "cut";
  const auto bytes = safetensors_bytes({{"a", at::arange(3, at::kFloat)}, {"b", at::arange(2, at::kLong)}});
  for (size_t length = 0; length < bytes.size(); ++length) {
    write_file_atomically(file, std::string_view(bytes).substr(0, length));
    CHECK_THROWS_AS(read_safetensors(file), DataError);
  }
}

TEST_CASE("safetensors: a name or dtype that the format cannot hold is not written") {
  CHECK_THROWS_AS(safetensors_bytes({{"__metadata__", at::zeros({1})}}), DataError);
  CHECK_THROWS_AS(safetensors_bytes({{"z", at::zeros({1}, at::kComplexDouble)}}), DataError);
}

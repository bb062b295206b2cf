#include "core/hash.h"

#include <catch2/catch_test_macros.hpp>

#include "core/error.h"
#include "core/files.h"
#include "scratch_folder.h"

using namespace attnscale;

TEST_CASE("hash: SHA-256 of the standard's examples (FIPS 180-2, appendix B)") {
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST_CASE("hash: what was begun gives the digest of the whole text, again and again") {
  const std::string beginning(200, 'b');  // several blocks of SHA-256, and a part
  const Sha256Begun begun(beginning);
  CHECK(begun.with({}) == sha256(beginning));
  CHECK(begun.with({"x", "", "yz"}) == sha256(beginning + "xyz"));
  CHECK(Sha256Begun(begun).with({"x"}) == sha256(beginning + "x"));
  CHECK(Sha256Begun("").with({"abc"}) == sha256("abc"));
}

TEST_CASE("hash: a file's hash is its content's, over block borders") {
  const ScratchFolder folder;
  const std::string content((1 << 20) + 17, 'q');
  write_file_atomically(folder / "f", content);
  CHECK(sha256_of_file(folder / "f") == sha256(content));
  CHECK_THROWS_AS(sha256_of_file(folder / "absent"), IoError);
}

TEST_CASE("hash: stream seeds differ by seed, name and index, and never change") {
  CHECK(stream_seed(0, "init") == stream_seed(0, "init"));
  CHECK(stream_seed(0, "init") != stream_seed(1, "init"));
  CHECK(stream_seed(0, "init") != stream_seed(0, "data"));
  CHECK(stream_seed(0, "data", 1) != stream_seed(0, "data", 2));
  // First eight bytes, little-endian, of SHA-256("0/init/0"), from sha256sum.
  CHECK(stream_seed(0, "init") == 0x26a295dd7dc560d3ULL);
}

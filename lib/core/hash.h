#pragma once

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;  // of libcrypto

namespace attnscale {

/// SHA-256 of the bytes, as 64 hexadecimal digits.
std::string sha256(std::string_view bytes);

/// A SHA-256 that was begun, for digests of many texts that begin alike: the beginning is read once.
class Sha256Begun {
 public:
  explicit Sha256Begun(std::string_view beginning);

  /// Of the beginning with these behind it, as 64 hexadecimal digits.
  std::string with(std::initializer_list<std::string_view> rest) const;

 private:
  std::shared_ptr<evp_md_ctx_st> begun_;
};

/// SHA-256 of a file's content, read in blocks. @throws IoError
std::string sha256_of_file(const std::filesystem::path& file);

/// A 64-bit seed for a named stream: the same inputs give the same seed on every machine, and
/// streams with different names are independent.
uint64_t stream_seed(uint64_t seed, std::string_view stream, uint64_t index = 0);

}  // namespace attnscale

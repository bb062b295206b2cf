#include "core/hash.h"

#include <cstring>
#include <fstream>
#include <memory>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "core/error.h"

namespace attnscale {
namespace {

class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), algorithm(), nullptr) != 1)
      throw std::runtime_error("libcrypto cannot start a SHA-256");
  }
  explicit Digest(const EVP_MD_CTX& begun) : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    if (!context_ || EVP_MD_CTX_copy_ex(context_.get(), &begun) != 1)
      throw std::runtime_error("libcrypto cannot copy a SHA-256");
  }
  void add(std::string_view bytes) { EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()); }
  std::string bytes() {
    std::string result(32, '\0');
    EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(result.data()), nullptr);
    return result;
  }
  std::shared_ptr<EVP_MD_CTX> context() && { return std::move(context_); }

 private:
  /// OpenSSL 3 looks EVP_sha256() up anew for each digest.
  static const EVP_MD* algorithm() {
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    static const EVP_MD* fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    return fetched;
#else
    return EVP_sha256();
#endif
  }

  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

std::string to_hex(const std::string& bytes) {
  std::string hex;
  hex.reserve(2 * bytes.size());
  for (const unsigned char byte : bytes)
    for (const int digit : {byte >> 4, byte & 15}) hex += "0123456789abcdef"[digit];
  return hex;
}

}  // namespace

std::string sha256(std::string_view bytes) {
  Digest digest;
  digest.add(bytes);
  return to_hex(digest.bytes());
}

Sha256Begun::Sha256Begun(std::string_view beginning) {
  Digest digest;
  digest.add(beginning);
  begun_ = std::move(digest).context();
}

std::string Sha256Begun::with(std::initializer_list<std::string_view> rest) const {
  Digest digest(*begun_);
  for (const auto& text : rest) digest.add(text);
  return to_hex(digest.bytes());
}

std::string sha256_of_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw IoError(fmt::format("{}: cannot open: {}", file.string(), std::strerror(errno)));
  Digest digest;
  std::string block(1 << 20, '\0');
  while (stream.read(block.data(), static_cast<std::streamsize>(block.size())) || stream.gcount() > 0)
    digest.add(std::string_view(block.data(), static_cast<size_t>(stream.gcount())));
  if (stream.bad()) throw IoError(fmt::format("{}: cannot read", file.string()));
  return to_hex(digest.bytes());
}

uint64_t stream_seed(uint64_t seed, std::string_view stream, uint64_t index) {
  Digest digest;
  digest.add(fmt::format("{}/{}/{}", seed, stream, index));
  const auto bytes = digest.bytes();
  uint64_t result = 0;
  for (int i = 0; i < 8; ++i) result |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return result;
}

}  // namespace attnscale

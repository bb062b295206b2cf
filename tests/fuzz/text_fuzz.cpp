// The tokenizer: any file is a vocabulary that gives its own text back, token for token, or a message.

#include <cstdint>
#include <cstdlib>
#include <filesystem>

#include <fcntl.h>
#include <unistd.h>

#include "data/registry.h"

using namespace attnscale;

namespace {

void write(const std::string& file, std::string_view bytes) {
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (descriptor < 0 || ::write(descriptor, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    std::abort();
  ::close(descriptor);
}

void read(const std::string& file, std::string_view bytes, const char* tokens) {
  try {
    const auto source = source_named("text").make({{"path", file}, {"tokens", tokens}, {"train_fraction", 0.5}});
    const auto encoded = source->encode(std::string(bytes));
    for (const auto token : encoded)
      if (token < 0 || token >= source->vocab_size()) std::abort();
    if (source->decode(encoded) != bytes) std::abort();
    // One window from each part, where they are long enough: the tokens of the text itself.
    const auto batch = source->batch(Split::validation, 0, 0, 1, 1);
    const auto begin = static_cast<int64_t>(static_cast<double>(encoded.size()) * 0.5);
    for (int64_t i = 0; i < 2; ++i)
      if (batch.tokens.at(i) != encoded.at(begin + i)) std::abort();
    for (const auto token : source->batch(Split::train, 1, 2, 3, 1).tokens)
      if (token < 0 || token >= source->vocab_size()) std::abort();
  } catch (const DataError&) {
  }
}

struct File {
  std::string path = "/dev/shm/attnscale-fuzz-text-" + std::to_string(::getpid());
  ~File() { ::unlink(path.c_str()); }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const File file;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  write(file.path, bytes);
  read(file.path, bytes, size % 2 ? "characters" : "bytes");
  return 0;
}

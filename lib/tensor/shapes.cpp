#include "tensor/shapes.h"

#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace attnscale {

namespace {

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    if (text.empty()) return words;
    words.push_back(text.substr(0, text.find(' ')));
    text.remove_prefix(words.back().size());
  }
}

}  // namespace

ShapeLetters check_shapes(const char* function, std::initializer_list<ShapeSpec> specs) {
  ShapeLetters letters;
  for (const auto& spec : specs) {
    const auto expected = words_of(spec.shape);
    const auto sizes = spec.tensor.sizes();
    const auto refuse = [&](const std::string& why) {
      throw ShapeError(fmt::format("{}: {} is [{}], expected [{}]{}", function, spec.name,
                                   fmt::join(sizes.begin(), sizes.end(), ", "), spec.shape, why));
    };
    if (sizes.size() != expected.size()) refuse("");
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto word = expected[i];
      if (word == "*") continue;
      if (std::isdigit(static_cast<unsigned char>(word[0]))) {
        if (std::to_string(sizes[i]) != word) refuse("");
        continue;
      }
      const auto [known, is_new] = letters.emplace(word, sizes[i]);
      if (!is_new && known->second != sizes[i])
        refuse(fmt::format(" with {} = {} as in the tensors before it", word, known->second));
    }
  }
  return letters;
}

}  // namespace attnscale

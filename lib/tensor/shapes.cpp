#include "tensor/shapes.h"

#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace attnscale {

ShapeLetters check_shapes(const char* function, std::initializer_list<ShapeSpec> specs) {
  ShapeLetters letters;
  for (const auto& spec : specs) {
    std::istringstream words(spec.shape);
    std::vector<std::string> expected;
    for (std::string word; words >> word;) expected.push_back(word);
    const auto sizes = spec.tensor.sizes();
    const auto refuse = [&](const std::string& why) {
      throw ShapeError(fmt::format("{}: {} is [{}], expected [{}]{}", function, spec.name,
                                   fmt::join(sizes.begin(), sizes.end(), ", "), spec.shape, why));
    };
    if (sizes.size() != expected.size()) refuse("");
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto& word = expected[i];
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

#pragma once

#include <initializer_list>
#include <map>
#include <string>

#include <torch/types.h>

namespace attnscale {

/// Sizes that letters stood for, by letter.
using ShapeLetters = std::map<std::string, int64_t>;

/// Checks tensors against documented shapes: `check_shapes("linear", {{"query", q, "B H T D"}, ...})`.
/// A letter shared between tensors must stand for one size; a number must match; `*` matches all.
/// @return the size of each letter
/// @throws ShapeError naming the function, the tensor, its shape and the shape expected
struct ShapeSpec {
  const char* name;
  const torch::Tensor& tensor;
  const char* shape;
};
ShapeLetters check_shapes(const char* function, std::initializer_list<ShapeSpec> specs);

}  // namespace attnscale

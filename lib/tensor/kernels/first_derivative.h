#pragma once

#include <string>

#include <c10/core/GradMode.h>

#include "core/error.h"

namespace attnscale {

/// What a kernel's backward pass begins with. Its loops leave no graph behind, so that a derivative of the gradients
/// that it gives would be taken as if they were constants.
/// @param kernel  its name, for the message @throws NumericsError if such a derivative is asked for (`create_graph`)
inline void refuse_second_derivative(const char* kernel) {
  if (c10::GradMode::is_enabled())
    throw NumericsError(std::string(kernel) +
                        ": gives first derivatives, received create_graph, which asks for second ones; switch the "
                        "kernels off for those (set_kernels(false), ATTNSCALE_KERNELS=off)");
}

}  // namespace attnscale

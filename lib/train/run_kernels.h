#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include <torch/types.h>

#include "core/json.h"

namespace attnscale {

/// The dtype of a run's matrix products. @param train_dtype  `train.dtype`
at::ScalarType products_of(const std::string& train_dtype);

/// The kernels that a run is trained by, as its checkpoints say. A run ends with those that it began with, as others
/// compute other bits.
struct RunKernels {
  std::string name;  ///< as `kernels_in_use` told
  std::optional<bool>
      products;  ///< whether they made the products of the run's dtype; nothing: it was not written down
};

/// Those that are in use here. @param train_dtype  `train.dtype`
RunKernels run_kernels(const std::string& train_dtype);

/// From `kernels` and `kernel_products` of a checkpoint's state; of one without: `otherwise`. Earlier versions wrote a
/// name alone, in which `avx512` may be any of today's three.
RunKernels read_run_kernels(const Json& state, const RunKernels& otherwise);

/// How a run goes on: without kernels, or with those that are there; and what is to be said about it, or nothing.
struct GoingOn {
  bool without = false;
  std::string note = {};
};

/// @throws DataError where what is there would make other products than the run began with, with what would do
/// @param where  the checkpoint @param folder  of the run
GoingOn going_on(const RunKernels& began, const RunKernels& here, const std::string& train_dtype,
                 const std::string& where, const std::filesystem::path& folder);

}  // namespace attnscale

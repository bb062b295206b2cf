#include "train/run_kernels.h"

#include <fmt/format.h>

#include "core/error.h"
#include "tensor/kernels/kernels.h"
#include "tensor/precision.h"

namespace attnscale {

at::ScalarType products_of(const std::string& train_dtype) {
  return train_dtype == "bfloat16" ? at::kBFloat16 : train_dtype == "float16" ? at::kHalf : weight_dtype(train_dtype);
}

RunKernels run_kernels(const std::string& train_dtype) {
  return {.name = kernels_in_use(), .products = has_kernels(products_of(train_dtype))};
}

RunKernels read_run_kernels(const Json& state, const RunKernels& otherwise) {
  if (!state.contains("kernels")) return otherwise;
  RunKernels kernels{.name = state["kernels"].get<std::string>(), .products = {}};
  if (state.contains("kernel_products")) kernels.products = state["kernel_products"].get<bool>();
  return kernels;
}

GoingOn going_on(const RunKernels& began, const RunKernels& here, const std::string& train_dtype,
                 const std::string& where, const std::filesystem::path& folder) {
  const auto refuse = [&](const std::string& why, const std::string& repair) {
    throw DataError(fmt::format("{}: {}; its numbers would be another run's\n  {}, or remove {} to do this run anew",
                                where, why, repair, folder.string()));
  };
  if (began.name == "none") {
    if (here.name == "none") return {};
    return {.without = true, .note = fmt::format("went on without the kernels of {}, as the run began", here.name)};
  }
  if (here.name == "none")
    refuse(fmt::format("this run began with the program's kernels ({}), which are off here, or not made for this "
                       "processor",
                       began.name),
           "unset ATTNSCALE_KERNELS to go on");
  const auto before = began.products         ? began.products
                      : began.name == "avx2" ? std::optional(train_dtype == "float32")
                                             : std::nullopt;
  if (before && here.products && *before != *here.products)
    refuse(fmt::format("this run began {} kernels for its products in {} ({}), which {} here ({})",
                       *before ? "with" : "without", train_dtype, began.name, *before ? "are missing" : "are used",
                       here.name),
           "go on on a processor like the first");
  if (!began.products && began.name == "avx512" && here.name.starts_with("avx512")) {  // they had one name
    if (train_dtype != "bfloat16") return {};
    return {.note =
                fmt::format("began by an earlier version, which did not write down which of its avx512 kernels made "
                            "products in bfloat16, went on with those of {}: the bits may not be those of one version",
                            here.name)};
  }
  if (began.name == here.name) return {};
  return {.note = fmt::format("began with the kernels of {}, went on with those of {}: the bits are not those of a run "
                              "on one machine",
                              began.name, here.name)};
}

}  // namespace attnscale

#include "tensor/kernels/kernels.h"

#include <atomic>
#include <cstdlib>
#include <string_view>

#include <ATen/Version.h>

#include "tensor/kernels/amx_product.h"
#include "tensor/kernels/row_functions.h"

namespace attnscale {

#ifdef ATTNSCALE_X86
extern const VectorFunctions vector_functions_AVX2, vector_functions_AVX512, vector_functions_AVX512_BF16;
extern const RowFunctions row_functions_AVX2, row_functions_AVX512, row_functions_AVX512_BF16;
#endif

namespace {

struct Chosen {
  const VectorFunctions* vectors = nullptr;
  const RowFunctions* rows = nullptr;
};

/// As ATen itself chooses among its kernels.
Chosen choose() {
#ifdef ATTNSCALE_X86
  const std::string capability = at::get_cpu_capability();
  const bool rounds = __builtin_cpu_supports("avx512bf16") != 0;
  if (capability == "AVX512")
    return rounds ? Chosen{&vector_functions_AVX512_BF16, &row_functions_AVX512_BF16}
                  : Chosen{&vector_functions_AVX512, &row_functions_AVX512};
  if (capability == "AVX2") return {&vector_functions_AVX2, &row_functions_AVX2};
#endif
  return {};
}

const Chosen& chosen() {
  static const Chosen functions = choose();
  return functions;
}

std::atomic<bool>& wanted() {
  static std::atomic<bool> on = [] {
    const char* setting = std::getenv("ATTNSCALE_KERNELS");
    return setting == nullptr || std::string_view(setting) != "off";
  }();
  return on;
}

/// LibTorch multiplies tiles of bfloat16 fast where the processor has instructions for it, and slowly elsewhere.
bool multiplies_bfloat16() {
#ifdef ATTNSCALE_X86
  return vector_functions() == &vector_functions_AVX512_BF16;
#else
  return false;
#endif
}

}  // namespace

const VectorFunctions* find_vector_functions() { return chosen().vectors; }
const RowFunctions* find_row_functions() { return chosen().rows; }

bool kernels_on() { return wanted() && vector_functions() != nullptr; }
void set_kernels(bool on) { wanted() = on; }

KernelsAsBefore::KernelsAsBefore() : wanted_(wanted()) {}
KernelsAsBefore::~KernelsAsBefore() { set_kernels(wanted_); }

std::string kernels_in_use() {
  if (!kernels_on()) return "none";
  return multiplies_bfloat16() && multiplies_by_amx() ? "avx512_amx" : vector_functions()->instruction_set;
}

bool has_kernels(at::ScalarType dtype) {
  return kernels_on() && (dtype == at::kFloat || (dtype == at::kBFloat16 && multiplies_bfloat16()));
}

}  // namespace attnscale

#include "tensor/kernels/kernels.h"

#include <atomic>
#include <cctype>
#include <cstdlib>
#include <string_view>

#include <ATen/Version.h>
#include <ATen/cpu/Utils.h>

#include "tensor/kernels/row_functions.h"

namespace attnscale {

#ifdef ATTNSCALE_X86
extern const VectorFunctions vector_functions_AVX2, vector_functions_AVX512, vector_functions_AVX512_BF16;
extern const RowFunctions row_functions_AVX2, row_functions_AVX512;
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
    return {rounds ? &vector_functions_AVX512_BF16 : &vector_functions_AVX512, &row_functions_AVX512};
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

#ifdef ATTNSCALE_X86
/// Whether the most that oneDNN may use is no less than AMX; what it does not know, it passes over.
bool may_be_amx(std::string isa) {
  for (auto& c : isa) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return isa.find("amx") != std::string::npos || !(isa.starts_with("avx") || isa.starts_with("sse"));
}
#endif

/// As oneDNN decides, which makes the products: by the processor, the system's leave, and its variable.
bool multiplies_by_amx() {
#ifdef ATTNSCALE_X86
  static const bool does = [] {
    if (__builtin_cpu_supports("amx-tile") == 0 || __builtin_cpu_supports("amx-bf16") == 0 || !at::cpu::init_amx())
      return false;
    for (const auto* name : {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"})
      if (const char* most = std::getenv(name)) return may_be_amx(most);
    return true;
  }();
  return does;
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

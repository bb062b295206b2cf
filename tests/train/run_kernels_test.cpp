#include "train/run_kernels.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "core/error.h"
#include "core/files.h"
#include "run_of.h"
#include "scratch_folder.h"
#include "tensor/kernels/kernels.h"
#include "train/trainer.h"

using namespace attnscale;
using Catch::Matchers::ContainsSubstring;

namespace {

GoingOn how(const RunKernels& began, const RunKernels& here, const std::string& dtype = "bfloat16") {
  return going_on(began, here, dtype, "checkpoint: step 7", "runs/a");
}

const RunKernels none{"none", false}, avx2{"avx2", false}, avx512{"avx512", false}, with_bf16{"avx512_bf16", true},
    with_amx{"avx512_amx", true};

}  // namespace

TEST_CASE("run kernels: the same ones go on and say nothing") {
  for (const auto& kernels : {none, avx2, avx512, with_bf16, with_amx}) {
    INFO(kernels.name);
    CHECK_FALSE(how(kernels, kernels).without);
    CHECK(how(kernels, kernels).note.empty());
  }
}

TEST_CASE("run kernels: others that make the same products go on with a note") {
  CHECK_THAT(how(with_bf16, with_amx).note,
             ContainsSubstring("began with the kernels of avx512_bf16, went on with those of avx512_amx"));
  CHECK_FALSE(how(avx2, avx512).note.empty());
  const RunKernels of_float32{"avx512_bf16", true};
  CHECK_FALSE(how({"avx512", true}, of_float32, "float32").note.empty());
  const auto without = how(none, with_bf16);
  CHECK(without.without);
  CHECK_THAT(without.note, ContainsSubstring("went on without the kernels of avx512_bf16"));
}

TEST_CASE("run kernels: where the products of the run's dtype would be made otherwise, the run is refused") {
  CHECK_THROWS_WITH(how(with_bf16, avx512),
                    ContainsSubstring("checkpoint: step 7: this run began with kernels for its products in bfloat16 "
                                      "(avx512_bf16), which are missing here (avx512)") &&
                        ContainsSubstring("remove runs/a"));
  CHECK_THROWS_WITH(how(avx512, with_bf16), ContainsSubstring("without kernels for its products in bfloat16 (avx512), "
                                                              "which are used here (avx512_bf16)"));
  CHECK_THROWS_AS(how(avx2, with_amx), DataError);
  CHECK_THROWS_WITH(how(with_bf16, none), ContainsSubstring("unset ATTNSCALE_KERNELS"));
}

TEST_CASE("run kernels: checkpoints with one name for all of AVX-512, and with none, go on") {
  const auto old = read_run_kernels({{"kernels", "avx512"}}, none);
  for (const auto& here : {avx512, with_bf16, with_amx}) {
    INFO(here.name);
    CHECK_FALSE(how(old, here).without);
    CHECK_THAT(how(old, here).note, ContainsSubstring("went on with those of " + here.name + ": the bits may not be"));
    CHECK(how(old, here, "float32").note.empty());
  }
  CHECK_FALSE(how(old, avx2).note.empty());
  CHECK_THROWS_AS(how({"avx2", {}}, with_bf16), DataError);
  CHECK_FALSE(how({"avx2", {}}, {"avx512_bf16", true}, "float32").note.empty());
  CHECK_THROWS_AS(how(old, none), DataError);
  CHECK(read_run_kernels(Json::object(), with_bf16).name == "avx512_bf16");
  const auto read = read_run_kernels({{"kernels", "avx512"}, {"kernel_products", false}}, none);
  CHECK(read.products == false);
}

TEST_CASE("run kernels: they are those of the machine, and a checkpoint has them") {
  const KernelsAsBefore as_before;
  set_kernels(true);
  for (const auto* dtype : {"float32", "float64", "bfloat16", "float16"}) {
    INFO(dtype);
    const std::string name = dtype;
    const bool products =
        name == "float32" ? has_kernels(at::kFloat) : name == "bfloat16" && has_kernels(at::kBFloat16);
    CHECK(run_kernels(dtype).name == kernels_in_use());
    CHECK(run_kernels(dtype).products == products);
    const ScratchFolder scratch;
    const auto config = run_of(Json::parse(R"({
      "model": {"depth": 1, "model_dim": 16, "num_heads": 2},
      "data": {"source": "zipf_memory", "context": 8, "num_keys": 10, "num_labels": 4},
      "train": {"steps": 2, "batch_size": 2, "eval_tokens": 80}})"),
                               {{"train.dtype", dtype}});
    train_run(config, {scratch.path, {}, {}});
    const auto state = read_json(scratch / "checkpoint/step-2/state.json").value;
    CHECK(read_run_kernels(state, none).name == kernels_in_use());
    CHECK(state.at("kernel_products") == products);
  }
  set_kernels(false);
  CHECK(run_kernels("float32").name == "none");
  CHECK(run_kernels("float32").products == false);
}

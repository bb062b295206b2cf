// Whole runs by the program's own kernels: the same bits from run to run, and the curve of LibTorch's operators.

#include <cmath>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "core/files.h"
#include "core/hash.h"
#include "run_of.h"
#include "scratch_folder.h"
#include "tensor/kernels/kernels.h"
#include "train/trainer.h"

using namespace attnscale;

namespace {

RunConfig kernel_run(const char* variant, const char* dtype) {
  return run_of(Json::parse(R"({
    "model": {"depth": 2, "model_dim": 16, "num_heads": 2},
    "data": {"source": "zipf_memory", "context": 70, "num_keys": 10, "num_labels": 4},
    "train": {"steps": 8, "batch_size": 2, "warmup_steps": 2, "eval_every": 8, "eval_tokens": 280, "learning_rate": 0.01}
  })"),
                {{"attention.variant", variant}, {"train.dtype", dtype}});
}

Json trained(const RunConfig& config, const std::filesystem::path& folder) {
  return train_run(config, {folder, {}, {}});
}

}  // namespace

TEST_CASE("kernel runs: the same bits from run to run, near those of LibTorch's operators") {
  const auto* dtype = GENERATE("float32", "bfloat16");
  if (!has_kernels(std::string(dtype) == "float32" ? at::kFloat : at::kBFloat16))
    SKIP("this processor has no kernels for that dtype");
  for (const auto* variant : {"softmax", "sliding_window", "linear", "performer", "retention", "gated_linear",
                              "gated_delta", "gated_delta_net"}) {
    CAPTURE(dtype, variant);
    const ScratchFolder scratch;
    const auto config = kernel_run(variant, dtype);
    const auto first = trained(config, scratch / "a"), second = trained(config, scratch / "b");
    CHECK(read_file(scratch / "a/log.jsonl") == read_file(scratch / "b/log.jsonl"));
    const auto* weights = "checkpoint/step-8/model.safetensors";
    CHECK(sha256_of_file(scratch / "a" / weights) == sha256_of_file(scratch / "b" / weights));
    CHECK(first["provenance"]["kernels"] != "none");

    set_kernels(false);
    const auto plain = trained(config, scratch / "c");
    set_kernels(true);
    // Eight steps in: rounding has had no time to grow. bfloat16 rounds to 2^-9 at other places.
    const double near = std::string(dtype) == "float32" ? 1e-4 : 0.02;
    const double ours = first["loss"].get<double>(), theirs = plain["loss"].get<double>();
    CHECK(std::abs(ours - theirs) < near * theirs);
    CHECK(plain["provenance"]["kernels"] == "none");
  }
}

#include "bench/generation.h"

#include <algorithm>
#include <optional>

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include "bench/attention.h"
#include "bench/peer_modes.h"
#include "bench/peer_script.h"
#include "bench/peer_source.h"
#include "bench/python_peer.h"
#include "bench/python_training.h"
#include "bench/timing.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/version.h"
#include "model/transformer.h"
#include "tensor/kernels/kernels.h"
#include "tensor/memory.h"
#include "train/provenance.h"
#include "train/trained_model.h"

namespace attnscale {
namespace {

/// Our model and the text that it has read.
class Decoder {
 public:
  Decoder(const RunConfig& config, const std::string& dtype)
      : model_(config.model, config.attention, config.data.context, stream_seed(0, "init")),
        vocabulary_(*config.model.vocab_size) {
    model_.to(scalar_type_named(dtype));
    model_.eval();
    state_ = model_.new_state(1);
  }

  void read(int64_t length) {
    constexpr int64_t piece = 512;
    while (state_.length < length) {
      const auto tokens = at::randint(vocabulary_, {1, std::min(piece, length - state_.length)}, at::kLong);
      newest_ = model_.decode(tokens, state_)[0][-1].argmax().item<int64_t>();
    }
  }

  void add(int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      newest_ = model_.decode(at::full({1, 1}, newest_, at::kLong), state_)[0][-1].argmax().item<int64_t>();
  }

  int64_t state_bytes() const { return state_.bytes(); }

 private:
  Transformer model_;
  int64_t vocabulary_, newest_ = 0;
  ModelState state_;
};

class PythonDecoder {
 public:
  PythonDecoder(const RunConfig& config, const GenerationBench& bench)
      : peer_(bench.python, with_common_module(generate_peer_script), bench.threads),
        about_(peer_.ask({{"vocab", *config.model.vocab_size},
                          {"context", config.data.context},
                          {"depth", config.model.depth},
                          {"dim", config.model.model_dim},
                          {"heads", config.model.num_heads},
                          {"bias", config.model.bias},
                          {"weights", ""},
                          {"threads", bench.threads},
                          {"clock", bench.clock}})) {
    for (const auto& mode : about_["modes"]) modes_.push_back({mode.get<std::string>(), {}});
    if (modes_.empty()) throw ConfigError("--against python: no mode works: " + about_["left_out"].dump());
    const auto params = static_cast<int64_t>(cost_of(config).parameters.total),
               theirs = about_["params"].get<int64_t>();
    if (params != theirs)
      throw ConfigError(fmt::format("--against python: its model has {} parameters, ours {}", theirs, params));
  }

  void read(int64_t length) {
    for (auto& mode : modes_) {
      peer_.ask({{"mode", mode.name}, {"length", length}});
      mode.time = {};
    }
  }

  void add(int64_t count, bool timed) {
    for (auto& mode : modes_) {
      const auto ms = peer_.ask({{"mode", mode.name}, {"tokens", count}})["ms"].get<double>();
      if (timed) mode.time.milliseconds.push_back(ms / static_cast<double>(count));
    }
  }

  /// @param ours  repetition by repetition
  Json beside(const Timing& ours) const { return modes_beside(modes_, ours, "ms_per_token"); }

  Json about() const { return {{"torch", about_["torch"]}, {"left_out", about_["left_out"]}}; }

 private:
  PythonPeer peer_;
  Json about_;
  std::vector<PeerMode> modes_;
};

}  // namespace

Json bench_generation(RunConfig config, const GenerationBench& bench) {
  const auto clock = clock_named(bench.clock, bench.threads);
  if (!decodes(config.attention)) throw ConfigError("bench generate: this attention keeps no decode state");
  auto lengths = bench.lengths;
  std::sort(lengths.begin(), lengths.end());
  // The texts of neighbouring lengths may meet; what is read is at least as long as asked for.
  const int64_t added = bench.tokens * (bench.warmup + bench.repetitions);
  config.data.context = std::max(config.data.context, lengths.back() + std::ssize(lengths) * added);
  at::set_num_threads(bench.threads);
  std::optional<PythonDecoder> python;
  if (!bench.python.empty()) {
    check_script_has_twin(config);
    python.emplace(config, bench);
  }
  const c10::InferenceMode no_gradients;
  Decoder ours(config, bench.dtype);
  Json rows = Json::array();
  for (const auto length : lengths) {
    ours.read(length);
    if (python) python->read(length);
    Timing timing;
    for (int repetition = -bench.warmup; repetition < bench.repetitions; ++repetition) {
      const double ms = measure([&] { ours.add(bench.tokens); }, 0, 1, clock).milliseconds[0];
      if (repetition >= 0) timing.milliseconds.push_back(ms / static_cast<double>(bench.tokens));
      if (python) python->add(bench.tokens, repetition >= 0);
    }
    rows.push_back({{"length", length},
                    {"ms_per_token", timing.to_json()},
                    {"tokens_per_second", 1000 / timing.median()},
                    {"state_bytes", ours.state_bytes()}});
    if (python) rows.back()["python"] = python->beside(timing);
  }
  Json result = {{"model", config.to_json()["model"]},
                 {"attention", config.to_json()["attention"]},
                 {"params", cost_of(config).parameters.total},
                 {"threads", bench.threads},
                 {"dtype", bench.dtype},
                 {"clock", bench.clock},
                 {"kernels", kernels_in_use()},
                 {"allocator", allocator_in_use()},
                 {"version", version},
                 {"commit", build_commit()},
                 {"tokens", bench.tokens},
                 {"rows", std::move(rows)}};
  if (python) result["python"] = python->about();
  return result;
}

}  // namespace attnscale

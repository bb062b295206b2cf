#include "bench/training_memory.h"

#include <ATen/Parallel.h>

#include "core/hash.h"
#include "model/transformer.h"
#include "tensor/kernels/tiles.h"
#include "tensor/memory_counter.h"
#include "train/stepper.h"

namespace attnscale {

int64_t training_step_bytes(const RunConfig& config) {
  at::set_num_threads(1);
  const auto seed = static_cast<uint64_t>(config.train.seed);
  const auto source = config.open_source();
  Transformer model(config.model, config.attention, config.data.context, stream_seed(seed, "init"));
  Stepper stepper(model, config.train);
  const auto step = [&](int64_t number) {
    const Batch batch = source->batch(Split::train, seed, number - 1, config.train.batch_size, config.data.context);
    stepper.step(training_questions(batch, config.model, seed, number), number);
  };
  step(1);
  release_scratch();
  const MemoryCounter memory;
  step(2);
  return memory.peak() + scratch_bytes();
}

}  // namespace attnscale

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/options.h"

namespace attnscale {

/// How a run is trained. Optional members have a default that depends on the others, filled in by `resolved`, and stay
/// unset where they have no effect.
struct TrainOptions {
  int64_t steps = 1000;
  int64_t batch_size = 16;                         ///< windows per step
  std::optional<int64_t> initial_batch_size = {};  ///< windows of the first step
  std::optional<int64_t> initial_context = {};     ///< tokens of the first step's windows
  double ramp_fraction = 0.25;                     ///< share of `steps` in which they grow
  int64_t accumulate = 1;                          ///< passes that a step's windows are divided into
  bool activation_checkpointing = false;           ///< blocks are computed again in the backward pass
  double learning_rate = 3e-3;

  std::string schedule = "cosine";  ///< constant, linear, cosine, inverse_sqrt, wsd, step, one_cycle, schedule_free
  std::optional<int64_t> warmup_steps = {};        ///< min(50, steps / 10); one_cycle: 3 steps / 10
  std::optional<int64_t> warmup_tokens = {};       ///< gives warmup_steps as the tokens that they hold, rounded up
  double initial_learning_rate = 0.04;             ///< one_cycle: at the first step, as a fraction of learning_rate
  std::optional<double> final_learning_rate = {};  ///< at the last step, as a fraction of learning_rate
  double decay_fraction = 0.2;                     ///< wsd: share of `steps` that decays
  std::optional<int64_t> decay_every = {};         ///< step: updates between drops
  double decay_factor = 0.1;                       ///< step: what a drop multiplies by

  std::string optimizer = "adamw";      ///< adamw, adam, sgd, lion, adafactor, muon
  double beta1 = 0.9;                   ///< adamw, adam, lion, and muon's AdamW
  std::optional<double> beta2 = {};     ///< likewise
  std::optional<double> epsilon = {};   ///< adamw, adam, adafactor, and muon's AdamW
  std::optional<double> momentum = {};  ///< sgd, muon
  std::optional<bool> nesterov = {};    ///< likewise
  int64_t newton_schulz_steps = 5;      ///< muon
  double decay_exponent = 0.8;          ///< adafactor: of the mean squared gradient
  double update_clip = 1;               ///< adafactor: largest root mean square of an update
  double smallest_scale = 1e-3;         ///< adafactor: least root mean square taken for a parameter's
  std::optional<double> weight_decay = {};
  bool decay_embeddings = true;  ///< tables of tokens and positions, and the head's matrix
  bool decay_vectors = false;    ///< gains and biases
  std::optional<double> embedding_rate = {};  ///< times the learning rate, of the same parameters as decay_embeddings
  std::optional<double> vector_rate = {};     ///< likewise as decay_vectors

  std::string clip = "global_norm";  ///< global_norm, per_layer_norm, value
  double clip_norm = 1.0;            ///< 0 turns clipping off
  double clip_value = 1.0;           ///< likewise

  double label_smoothing = 0;
  double z_loss = 0;
  double ema_decay = 0;  ///< 0: no average is kept

  std::string dtype = "float32";                ///< float32, bfloat16 or float16 (mixed precision), float64
  std::optional<bool> float32_projections = {};   ///< under mixed precision; see Float32Parts
  std::optional<bool> float32_attention = {};     ///< likewise
  std::optional<bool> float32_feed_forward = {};  ///< likewise
  std::optional<bool> float32_head = {};          ///< likewise
  std::optional<double> loss_scale = {};        ///< float16: of the first step, a power of two
  int64_t loss_scale_growth_every = 2000;       ///< float16: steps without overflow that double it
  std::string on_divergence = "stop";           ///< stop, skip, roll_back
  std::optional<int64_t> most_recoveries = {};  ///< skip: steps; roll_back: times
  double roll_back_factor = 0.5;                ///< of the learning rate, each time
  std::string device = "cpu";                   ///< cpu, cuda; not part of a run's id
  std::optional<bool> deterministic = {};       ///< cuda; likewise
  std::optional<bool> cuda_graph = {};          ///< likewise
  int64_t seed = 0;
  int64_t eval_every = 250;          ///< steps; the end is always evaluated
  int64_t eval_tokens = 65536;       ///< target tokens of the fixed validation set (rounded up to whole batches)
  int64_t eval_training_tokens = 0;  ///< target tokens of training windows that the end is scored on; 0: none
  int64_t eval_context = 0;          ///< of longer windows that the end is scored on too; 0: none
  int64_t watch_every = 0;           ///< steps; 0: never
  int64_t checkpoint_every = 500;    ///< steps; 0 writes only the last one

  int64_t context = 1;  ///< no option: the window's, which what is counted in tokens depends on

  static const Fields& fields();
};

/// Fills what was left out and has an effect. What is filled stays: resolving again changes nothing. `warmup_steps`
/// then stands for `warmup_tokens`.
TrainOptions resolved(TrainOptions options);

/// What does not fit together, by path below `train`: found before anything is trained. @param options  resolved
std::vector<Problem> train_problems(const TrainOptions& options);

/// Updates at the end that `decay_fraction` means; at least one.
int64_t decay_steps(const TrainOptions& options);

/// Windows that one forward and backward pass holds.
inline int64_t rows_per_pass(const TrainOptions& options) { return options.batch_size / options.accumulate; }

}  // namespace attnscale

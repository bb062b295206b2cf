#include "train/options.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string_view>

#include <fmt/format.h>

#include "train/ramp.h"

namespace attnscale {
namespace {

using Options = TrainOptions;
using Names = std::initializer_list<std::string_view>;

bool among(const std::string& name, Names names) { return std::find(names.begin(), names.end(), name) != names.end(); }

// When an option has an effect: the words that docs and errors use, beside the test of the same.

bool has_betas(const Options& o) { return among(o.optimizer, {"adamw", "adam", "lion", "muon"}); }
bool has_epsilon(const Options& o) { return among(o.optimizer, {"adamw", "adam", "adafactor", "muon"}); }
bool has_momentum(const Options& o) { return among(o.optimizer, {"sgd", "muon"}); }
bool is_schedule_free(const Options& o) { return o.schedule == "schedule_free"; }
bool is_scheduled(const Options& o) { return !is_schedule_free(o); }
bool has_nesterov(const Options& o) { return has_momentum(o) && is_scheduled(o) && o.momentum != 0.0; }
bool is_muon(const Options& o) { return o.optimizer == "muon"; }
bool is_adafactor(const Options& o) { return o.optimizer == "adafactor"; }
bool decays(const Options& o) { return resolved(o).weight_decay != 0.0; }

bool ends_lower(const Options& o) { return among(o.schedule, {"linear", "cosine", "wsd", "one_cycle"}); }
bool is_wsd(const Options& o) { return o.schedule == "wsd"; }
bool is_step(const Options& o) { return o.schedule == "step"; }
bool is_one_cycle(const Options& o) { return o.schedule == "one_cycle"; }
bool starts_lower(const Options& o) { return is_one_cycle(o) && resolved(o).warmup_steps > 1; }
bool reaches_lower(const Options& o) { return ends_lower(o) && resolved(o).warmup_steps < o.steps; }

bool is_mixed(const Options& o) { return among(o.dtype, {"bfloat16", "float16"}); }
bool on_cuda(const Options& o) { return o.device == "cuda"; }
bool is_float16(const Options& o) { return o.dtype == "float16"; }
bool recovers(const Options& o) { return o.on_divergence != "stop"; }
bool rolls_back(const Options& o) { return o.on_divergence == "roll_back"; }

bool clips_values(const Options& o) { return o.clip == "value"; }
bool clips_norms(const Options& o) { return !clips_values(o); }
bool clips(const Options& o) { return (clips_values(o) ? o.clip_value : o.clip_norm) > 0; }

/// The warmup_steps that warmup_tokens, which must be set, gives.
int64_t warmup_steps_for_tokens(const Options& o) { return steps_that_hold(o, *o.warmup_tokens); }

constexpr const char* where_betas = "optimizer adamw, adam, lion or muon";
constexpr const char* where_epsilon = "optimizer adamw, adam, adafactor or muon";
constexpr const char* where_mixed = "dtype bfloat16 or float16";
constexpr const char* where_decay = "weight_decay above 0";

Fields length_fields() {
  return {
      field(&Options::steps, "steps", "updates of the weights").between(1, 1e9),
      field(&Options::batch_size, "batch_size", "windows of data.context tokens in each step").between(1, 1 << 20),
      field(&Options::initial_batch_size, "initial_batch_size",
            "windows of the first step, from where they grow in a line to batch_size, in multiples of accumulate (Smith "
            "et al. 2018); left out: batch_size from the start")
          .between(1, 1 << 20),
      field(&Options::initial_context, "initial_context",
            "tokens of each window that the first step reads, its first ones, from where they grow in a line to "
            "data.context (Li et al. 2022); left out: whole windows from the start; for head next_token of sources "
            "without answers at places of their own")
          .between(1, 1 << 20)
          .in("tokens"),
      field(&Options::ramp_fraction, "ramp_fraction", "share of `steps` at the start in which they grow")
          .between(0, 1)
          .above(0)
          .only_with("initial_batch_size or initial_context", has_ramp),
      field(&Options::accumulate, "accumulate",
            "passes that a step's windows are divided into, to save memory: the gradients of all make one update; a "
            "divisor of batch_size")
          .between(1, 1 << 20),
      field(&Options::activation_checkpointing, "activation_checkpointing",
            "keeps of each block only its input and computes the rest again in the backward pass: less memory, same "
            "gradients, a third more FLOPs of the blocks"),
  };
}

Fields schedule_fields() {
  return {
      field(&Options::learning_rate, "learning_rate", "the optimizer's rate at the end of the warm-up").above(0),
      field(&Options::schedule, "schedule",
            "the rate after the warm-up: constant, falling in a line or half a cosine, by the root of the step, "
            "constant and then falling (wsd), falling in steps, half a cosine after a longer warm-up that is one too "
            "(one_cycle), or constant with an average of the weights that is evaluated (schedule_free, Defazio et al. "
            "2024, for adamw and sgd, whose beta1 or momentum is the average's share in where gradients are taken)")
          .one_of({"constant", "linear", "cosine", "inverse_sqrt", "wsd", "step", "one_cycle", "schedule_free"}),
      field(&Options::warmup_steps, "warmup_steps",
            "steps of warm-up, at most `steps`; left out: a tenth of `steps`, at most 50, for one_cycle three tenths")
          .between(0, 1e9)
          .in("steps"),
      field(&Options::warmup_tokens, "warmup_tokens",
            "gives warmup_steps as the tokens that they hold, rounded up to whole steps; left out: warmup_steps says "
            "it")
          .at_least(0)
          .in("tokens"),
      field(&Options::initial_learning_rate, "initial_learning_rate",
            "rate of the first step, as a fraction of learning_rate")
          .between(0, 1)
          .only_with("schedule one_cycle, and warmup_steps above 1", starts_lower),
      field(&Options::final_learning_rate, "final_learning_rate",
            "rate of the last step, as a fraction of learning_rate; left out: 0.1, for one_cycle 4e-6")
          .between(0, 1)
          .only_with("schedule linear, cosine, wsd or one_cycle, and warmup_steps below steps", reaches_lower),
      field(&Options::decay_fraction, "decay_fraction", "share of `steps` at the end in which the rate falls in a line")
          .between(0, 1)
          .above(0)
          .only_with("schedule wsd", is_wsd),
      field(&Options::decay_every, "decay_every",
            "steps after the warm-up until the first drop, and between drops; left out: a third of those after the "
            "warm-up, rounded up")
          .between(1, 1e9)
          .in("steps")
          .only_with("schedule step", is_step),
      field(&Options::decay_factor, "decay_factor", "what each drop multiplies the rate by")
          .between(0, 1)
          .above(0)
          .only_with("schedule step", is_step),
  };
}

Fields optimizer_fields() {
  return {
      field(&Options::optimizer, "optimizer",
            "AdamW; Adam with the decay added to the gradient; SGD with momentum; Lion; Adafactor; or Muon, which "
            "orthogonalises the update of the blocks' linear maps and leaves the rest to AdamW")
          .one_of({"adamw", "adam", "sgd", "lion", "adafactor", "muon"}),
      field(&Options::beta1, "beta1", "how much of the mean gradient each step keeps")
          .between(0, 0.99999)
          .only_with(where_betas, has_betas),
      field(&Options::beta2, "beta2",
            "how much of the mean squared gradient (lion: of the mean gradient) each step keeps; left out: 0.95, for "
            "lion 0.99")
          .between(0, 0.9999999)
          .only_with(where_betas, has_betas),
      field(&Options::epsilon, "epsilon",
            "added to the root of the mean squared gradient, for adafactor the least that root may be; left out: 1e-8, "
            "for adafactor 1e-15")
          .between(0, 1)
          .above(0)
          .only_with(where_epsilon, has_epsilon),
      field(&Options::momentum, "momentum",
            "how much of the summed (muon: mean) gradient each step keeps; left out: 0.9, for muon 0.95")
          .between(0, 0.99999)
          .only_with("optimizer sgd or muon", has_momentum),
      field(&Options::nesterov, "nesterov",
            "steps along the momentum as it will be (Nesterov's); left out: false, for muon true")
          .only_with("optimizer sgd or muon, momentum above 0 and another schedule than schedule_free", has_nesterov),
      field(&Options::newton_schulz_steps, "newton_schulz_steps", "iterations that orthogonalise an update")
          .between(1, 99)
          .only_with("optimizer muon", is_muon),
      field(&Options::decay_exponent, "decay_exponent",
            "the mean squared gradient keeps 1 - t^-exponent of itself at step t")
          .between(0, 10)
          .only_with("optimizer adafactor", is_adafactor),
      field(&Options::update_clip, "update_clip", "largest root mean square of an update, before the rate")
          .between(0, 1e9)
          .above(0)
          .only_with("optimizer adafactor", is_adafactor),
      field(&Options::smallest_scale, "smallest_scale",
            "an update is as large as its parameter's root mean square, but at least this, times the rate")
          .between(0, 1e9)
          .above(0)
          .only_with("optimizer adafactor", is_adafactor),
      field(&Options::weight_decay, "weight_decay",
            "pull to zero, on matrices: times the rate apart from the gradient, but for adam and sgd added to it; left "
            "out: 0.1, for adam and sgd 0")
          .between(0, 1000),
      field(&Options::decay_embeddings, "decay_embeddings",
            "the decay acts on tables of tokens and positions, on a factorised embedding's maps, and on the head's "
            "matrix, too")
          .only_with(where_decay, decays),
      field(&Options::decay_vectors, "decay_vectors", "the decay acts on gains and biases, too")
          .only_with(where_decay, decays),
      field(&Options::embedding_rate, "embedding_rate",
            "the rate of tables of tokens and positions, of a factorised embedding's maps, and of the head's matrix, as a "
            "multiple of learning_rate; left out: 1")
          .between(0, 1e6)
          .above(0),
      field(&Options::vector_rate, "vector_rate", "the rate of gains and biases, likewise; left out: 1")
          .between(0, 1e6)
          .above(0),
  };
}

Fields objective_fields() {
  return {
      field(&Options::clip, "clip",
            "what of the gradient is limited: the norm of the whole, that of each layer, or each number's size")
          .one_of({"global_norm", "per_layer_norm", "value"})
          .only_with("a limit (clip_norm or clip_value) above 0", clips),
      field(&Options::clip_norm, "clip_norm", "largest gradient norm; 0 turns clipping off")
          .at_least(0)
          .only_with("clip global_norm or per_layer_norm", clips_norms),
      field(&Options::clip_value, "clip_value", "largest size of a gradient's number; 0 turns clipping off")
          .at_least(0)
          .only_with("clip value", clips_values),
      field(&Options::label_smoothing, "label_smoothing",
            "share of each target's probability that training spreads over the whole vocabulary; losses are reported "
            "without")
          .between(0, 0.99),
      field(&Options::z_loss, "z_loss",
            "weight of the mean squared logarithm of the softmax's normaliser in what training minimises; losses are "
            "reported without")
          .at_least(0),
      field(&Options::ema_decay, "ema_decay",
            "how much of the weights' running average each step keeps; evaluations, and commands that load the run, "
            "then use the average; 0 keeps none")
          .between(0, 0.9999999)
          .only_with("another schedule than schedule_free, which keeps an average of its own", is_scheduled),
  };
}

Fields run_fields() {
  return {
      field(&Options::dtype, "dtype",
            "bfloat16 and float16 mean mixed precision: float32 weights, products in that dtype; with float16 the loss "
            "is scaled. Embeddings, the stream, norms, softmax and the loss stay float32")
          .one_of({"float32", "bfloat16", "float16", "float64"}),
      field(&Options::float32_projections, "float32_projections",
            "products that make attention's queries, keys, values, gates and outputs stay float32 under mixed "
            "precision; for variants that leave them to the model; left out: false")
          .only_with(where_mixed, is_mixed),
      field(&Options::float32_attention, "float32_attention",
            "what the attention variant does stays float32: logits, weights and sums, of a variant with projections of "
            "its own those too; for variants whose products would not be; left out: false")
          .only_with(where_mixed, is_mixed),
      field(&Options::float32_feed_forward, "float32_feed_forward",
            "products of feed-forward networks, and of the router of experts, stay float32; left out: false")
          .only_with(where_mixed, is_mixed),
      field(&Options::float32_head, "float32_head",
            "the product that makes the logits stays float32, with those of a factorised embedding and of head "
            "reconstruct; left out: false")
          .only_with(where_mixed, is_mixed),
      field(&Options::loss_scale, "loss_scale",
            "what the loss is multiplied by before the backward pass, at the start: a power of two; halved at each "
            "step whose gradients overflow, which is left out; left out: 65536")
          .between(1, 0x1p100)
          .only_with("dtype float16", is_float16),
      field(&Options::loss_scale_growth_every, "loss_scale_growth_every",
            "steps in a row without overflow after which loss_scale is doubled")
          .between(1, 1e9)
          .in("steps")
          .only_with("dtype float16", is_float16),
      field(&Options::on_divergence, "on_divergence",
            "when a loss or gradient is not finite: the run ends as diverged; or the step is left out (skip); or it "
            "goes on from its last checkpoint at a lower rate (roll_back)")
          .one_of({"stop", "skip", "roll_back"}),
      field(&Options::most_recoveries, "most_recoveries",
            "steps left out, or returns to a checkpoint, before the run ends as diverged all the same; left out: 10 "
            "for skip, 3 for roll_back")
          .between(1, 1e9)
          .only_with("on_divergence skip or roll_back", recovers),
      field(&Options::roll_back_factor, "roll_back_factor", "what each return to a checkpoint multiplies the rate by")
          .between(0, 1)
          .above(0)
          .only_with("on_divergence roll_back", rolls_back),
      field(&Options::device, "device", "where it trains; a run has the same id everywhere").one_of({"cpu", "cuda"}),
      field(&Options::deterministic, "deterministic",
            "the same bits each time on one CUDA device: operators that would add in any order take a slower way or "
            "are refused; a run has the same id with and without. On a CPU runs repeat to the bit as they are; left out: "
            "false")
          .only_with("device cuda", on_cuda),
      field(&Options::cuda_graph, "cuda_graph",
            "each step is one CUDA graph, which a GPU is given in one piece: for small models, whose many kernels it "
            "would wait for; with optimizer adamw or adam; steps that are watched, and the first three of each shape, "
            "are given kernel by kernel; a run has the same id with and without; left out: false")
          .only_with("device cuda", on_cuda),
      field(&Options::seed, "seed", "of initialisation, data order and dropout, each a stream of its own").at_least(0),
      field(&Options::eval_every, "eval_every", "steps between evaluations; the end is always evaluated")
          .between(1, 1e9)
          .in("steps"),
      field(&Options::eval_tokens, "eval_tokens",
            "size of the validation set, the same for every variant and seed; rounded up to whole batches")
          .between(1, 1e9)
          .in("tokens"),
      field(&Options::eval_training_tokens, "eval_training_tokens",
            "size of a set of training windows, the same for every variant and seed, that the end is scored on as on "
            "the validation set: the result's training_loss; 0: none")
          .between(0, 1e9)
          .in("tokens"),
      field(&Options::eval_context, "eval_context",
            "context of a second validation set of eval_tokens, longer than data.context, that the end is scored on: "
            "the result's `longer`, with its losses by position; 0: none")
          .between(0, 1 << 20)
          .in("tokens"),
      field(&Options::watch_every, "watch_every",
            "steps between looks at norms of gradients, weights and updates, at activations and at attention, layer by "
            "layer, and at the first step; 0: never")
          .between(0, 1e9)
          .in("steps"),
      field(&Options::checkpoint_every, "checkpoint_every",
            "steps between checkpoints; 0 writes one at the end or when stopped")
          .between(0, 1e9)
          .in("steps"),
  };
}

}  // namespace

const Fields& TrainOptions::fields() {
  static const Fields list = [] {
    Fields all;
    for (auto part : {length_fields(), schedule_fields(), optimizer_fields(), objective_fields(), run_fields()})
      all.insert(all.end(), part.begin(), part.end());
    return all;
  }();
  return list;
}

TrainOptions resolved(TrainOptions o) {
  const auto fill = [](auto& member, auto value) {
    if (!member) member = value;
  };
  if (o.warmup_tokens) {
    fill(o.warmup_steps, warmup_steps_for_tokens(o));
    if (o.warmup_steps == warmup_steps_for_tokens(o)) o.warmup_tokens.reset();
  }
  fill(o.warmup_steps, is_one_cycle(o) ? 3 * o.steps / 10 : std::min<int64_t>(50, o.steps / 10));
  if (ends_lower(o)) fill(o.final_learning_rate, is_one_cycle(o) ? 4e-6 : 0.1);
  if (is_step(o)) fill(o.decay_every, std::max<int64_t>(1, (o.steps - *o.warmup_steps + 2) / 3));
  if (has_betas(o)) fill(o.beta2, o.optimizer == "lion" ? 0.99 : 0.95);
  if (has_epsilon(o)) fill(o.epsilon, is_adafactor(o) ? 1e-15 : 1e-8);
  if (has_momentum(o)) fill(o.momentum, is_muon(o) ? 0.95 : 0.9);
  if (has_nesterov(o)) fill(o.nesterov, is_muon(o));
  if (is_float16(o)) fill(o.loss_scale, 65536.0);
  if (recovers(o)) fill(o.most_recoveries, rolls_back(o) ? 3 : 10);
  for (auto* part : {&o.float32_projections, &o.float32_attention, &o.float32_feed_forward, &o.float32_head,
                     &o.deterministic, &o.cuda_graph})
    if (*part == false) part->reset();
  if (o.embedding_rate == 1.0) o.embedding_rate.reset();
  if (o.vector_rate == 1.0) o.vector_rate.reset();
  fill(o.weight_decay, among(o.optimizer, {"adam", "sgd"}) ? 0.0 : 0.1);
  return o;
}

int64_t decay_steps(const TrainOptions& o) {
  return std::max<int64_t>(1, std::llround(o.decay_fraction * static_cast<double>(o.steps)));
}

std::vector<Problem> train_problems(const TrainOptions& o) {
  std::vector<Problem> problems;
  if (*o.warmup_steps > o.steps)
    problems.push_back({"warmup_steps", fmt::format("warm-up of {} steps in a run of {}; expected at most {}",
                                                    *o.warmup_steps, o.steps, o.steps)});
  if (o.warmup_tokens)
    problems.push_back({"warmup_tokens", fmt::format("{} tokens take {} steps, not warmup_steps {}; leave one of the "
                                                     "two out",
                                                     *o.warmup_tokens, warmup_steps_for_tokens(o), *o.warmup_steps)});
  if (is_schedule_free(o) && !among(o.optimizer, {"adamw", "sgd"}))
    problems.push_back({"schedule", fmt::format("schedule_free is a form of adamw and sgd, not of {}; take one of "
                                                "them, or another schedule",
                                                o.optimizer)});
  else if (is_schedule_free(o) && (o.optimizer == "sgd" ? *o.momentum : o.beta1) == 0)
    problems.push_back({o.optimizer == "sgd" ? "momentum" : "beta1",
                        "0 would leave schedule_free's average out of the training; take 0.9 or another number above "
                        "0"});
  if (const auto first = o.initial_batch_size; first && (*first >= o.batch_size || *first % o.accumulate != 0))
    problems.push_back({"initial_batch_size",
                        fmt::format("received {}, expected a multiple of accumulate {} below batch_size {}; leave it out "
                                    "to have all windows from the start",
                                    *first, o.accumulate, o.batch_size)});
  if (o.batch_size % o.accumulate != 0)
    problems.push_back({"accumulate", fmt::format("{} passes do not divide the {} windows of a step; expected a "
                                                  "divisor of batch_size",
                                                  o.accumulate, o.batch_size)});
  if (o.loss_scale && std::exp2(std::round(std::log2(*o.loss_scale))) != *o.loss_scale)
    problems.push_back({"loss_scale", fmt::format("received {}, expected a power of two, which changes no digit, such "
                                                  "as {}",
                                                  *o.loss_scale, std::exp2(std::round(std::log2(*o.loss_scale))))});
  const int64_t after_warmup = o.steps - *o.warmup_steps;
  if (is_wsd(o) && decay_steps(o) > after_warmup)
    problems.push_back({"decay_fraction", fmt::format("the last {} of {} steps begin before the warm-up of {} ends; "
                                                      "take less of either",
                                                      decay_steps(o), o.steps, *o.warmup_steps)});
  if (is_step(o) && after_warmup >= 0 && *o.decay_every >= after_warmup)
    problems.push_back(
        {"decay_every", fmt::format("the first drop comes {} steps after the warm-up of {}, too late in "
                                    "a run of {}; expected at most {}, or a shorter warm-up",
                                    *o.decay_every, *o.warmup_steps, o.steps, std::max<int64_t>(0, after_warmup - 1))});
  return problems;
}

}  // namespace attnscale

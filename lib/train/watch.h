#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "model/attention_choice.h"
#include "model/transformer.h"
#include "train/optimizer.h"

namespace attnscale {

/// `blocks.3` of `blocks.3.norm1.weight`, `embedding` of `embedding.token`.
std::string layer_of(const std::string& parameter);

/// What a look at one step found of a layer, by name:
///   gradient_norm, weight_norm, update_norm   2-norms over the layer's parameters: of the gradient before clipping, of
///                      the weights before the update, and of the update
///   dead_units         share of feed-forward units that nothing in the batch activated: their column of `down` had a
///                      gradient of exactly zero. ReLUs die for good; smooth units come here far below zero only.
///                      Experts whose whole gradient is zero (chosen by no position) are left out, and layers that
///                      ReZero's gain still shuts off
///   stream_rms         root mean square of the residual stream after the block
///   attention_entropy  of what a position takes from the others, nats, mean over heads and positions; of any variant
///                      (`implied_attention`), for one window's first positions
///   attention_share    that entropy as a share of uniform attention's
///   attention_distance mean of how far back that is, positions
///   head_overlap       mean over pairs of heads of the overlap of what they write to (diagnostics/head_roles.h)
///   induction          the best head's induction score on random tokens that come twice; of causal variants that do
///   not
///                      make their own keys
///   logit_max          largest |q . k| / sqrt(D) of a query and a key it sees, for variants with the trait logit_bias;
///                      before a bias or cap
using LayerLook = std::map<std::string, double>;

/// A look at one step.
struct Look {
  std::vector<std::pair<std::string, LayerLook>> layers;  ///< in the model's order
  /// Batch size, in windows, at which a gradient's noise is as large as the gradient (McCandlish et al. 2018,
  /// arXiv:1812.06162, appendix A.1, B_simple), from norms of the passes' gradients and of their mean: one step's
  /// estimate, noisy. Nothing with one pass a step, or where noise hides the gradient.
  std::optional<double> noise_scale = {};
};

/// B_simple = tr(Sigma) / |G|^2 from two estimates of E |g|^2 = |G|^2 + tr(Sigma) / size.
/// @param small_square  mean squared norm of gradients over `small` windows @param large_square  of one over `large`
/// @return windows; nothing where the estimate of |G|^2 is not above zero
std::optional<double> noise_scale(double small_square, double large_square, int64_t small, int64_t large);

/// Looks at a step while a Stepper takes it: after the gradients are complete, and after the update.
class StepLook {
 public:
  /// Gradients of one pass, while they stand apart from those of the others. @param slots  the optimiser's
  void add_pass(const std::vector<Slot>& slots);
  /// @param windows  of the step @param loss_scale  which the gradients of passes still had
  void before_update(const std::vector<Slot>& slots, int64_t windows, double loss_scale = 1);
  void after_update(const std::vector<Slot>& slots);

  const Look& look() const { return look_; }

 private:
  LayerLook& layer(const std::string& name);

  Look look_;
  std::vector<double> pass_squares_;
  std::vector<Tensor> weights_;  // before the update
};

/// Adds what a forward pass shows: `stream_rms` and what is named after attention. Leaves the model as it was.
/// @param inputs  int64 [R, T], on the model's device @param seed  of the random directions that an estimate needs
/// Cost: a forward pass, and for attention H backward passes over at most 64 copies of 64 positions a layer.
void look_at_activations(Transformer& model, const AttentionChoice& attention, const Tensor& inputs, uint64_t seed,
                         Look& look);

/// The row of the log: step, `"watch": true`, learning rate, `layers`, and `noise_scale` where there is one; nothing if
/// a number is not finite, which the next step will tell.
std::optional<Json> to_row(const Look& look, int64_t step, double learning_rate);

/// Rows of the log as columns, for the result: `steps`, `learning_rate`, and by layer lists of what every row has.
Json watch_columns(const std::vector<Json>& rows);

/// What is wrong with a run, and what to do about it: objects with `kind` (divergence, nan, dead_units,
/// entropy_collapse), `step` (the first at which it was seen), `layer` (not of divergence and nan), `value` and
/// `advice`.
/// @param rows         of the log, from looks
/// @param diverged_at  the step that ended the run, if one did @param cause  of that
Json alarms_of(const std::vector<Json>& rows, const std::optional<int64_t>& diverged_at, const std::string& cause);

}  // namespace attnscale

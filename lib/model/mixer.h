#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "attention/attention.h"
#include "attention/rotary.h"
#include "model/float32_parts.h"
#include "model/norm.h"

// B batch, T positions, M model width, H heads, G key-value heads, D head width

namespace attnscale {

/// The sublayer that lets positions see each other: projections around an attention variant, which it knows through the
/// interface only.
///
/// Holds `qkv` [(H + 2 G) D, M] (query's rows, then key's, then value's, each head by head), `gates.<name>`
/// [H width, M] for each gate that the variant asks for, `output` [M, H D], with qk_norm `query_norm` and `key_norm`
/// [D], and the variant's own parameters under `attention`. Around a variant that owns its projections it holds
/// `attention` alone.
class Mixer : public torch::nn::Module {
 public:
  /// @param rotary  null unless positions are rotary; turns the first `rotary_width` numbers of one part of a head
  ///                (VariantInfo::rotary_parts), and is shared by the layers whose parts are equally wide
  /// @param seed    of the variant's own parameters; the projections are set by `initialise`
  Mixer(const ModelOptions& options, const AttentionChoice& choice, const Geometry& geometry,
        std::shared_ptr<Rotary> rotary, uint64_t seed);

  /// @param x       [B, T, M]
  /// @param offset  position of the first row
  /// @param state   null for all positions at once; otherwise the T positions are appended to it
  /// @param bias    on the logits, [1, H, T, offset + T]; undefined: none
  /// @param memory  what keys and values are made of, [B, S, M], without a state and rotary positions; undefined: x
  /// @return        [B, T, M]
  Tensor forward(const Tensor& x, int64_t offset, State* state, const Tensor& bias = {}, const Tensor& memory = {});

  /// What the variant would receive for x [B, T, M] from position 0 on.
  Inputs inputs(const Tensor& x, const Tensor& bias = {}) const {
    return qkv_ ? project(x, 0, bias, {}) : Inputs{.hidden = x.unsqueeze(1)};
  }

  /// Whether what it reads goes into matrix products and nothing else.
  bool only_projects() const { return qkv_ && !query_norm_ && gates_.empty() && input_scale_ == 1; }

  /// As Transformer::keep_float32.
  void keep_float32(const Float32Parts& parts) { float32_ = parts; }

  Attention& attention() { return *attention_; }
  const Attention& attention() const { return *attention_; }

 private:
  Inputs project(const Tensor& stream, int64_t offset, const Tensor& bias, const Tensor& memory) const;
  Inputs projected(const Tensor& stream, int64_t offset, const Tensor& bias, const Tensor& memory) const;
  Tensor attended(Inputs inputs, State* state);
  Tensor turned(const Tensor& heads, int64_t offset) const;

  Geometry geometry_;
  Float32Parts float32_;
  int64_t rotary_parts_;
  double input_scale_, query_scale_;  // of muP: 1 / m, and 1 / the root of the head width's multiple; of logit_scale
  std::shared_ptr<Rotary> rotary_;
  std::shared_ptr<Linear> qkv_, output_;
  std::shared_ptr<Norm> query_norm_, key_norm_;  // null without qk_norm
  std::vector<std::pair<std::string, std::shared_ptr<Linear>>> gates_;
  std::shared_ptr<Attention> attention_;
};

}  // namespace attnscale

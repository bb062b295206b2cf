#pragma once

#include <optional>
#include <string>

#include "attention/recurrence.h"
#include "tensor/kernels/vector_functions.h"

// B batch, H heads, G key-value heads, T queries, S keys, D key width, F feature width, E value width
//
// What the variants with a feature map in place of the exponential share: everything but the map.

namespace attnscale {

/// y_t = sum_i (phi(q_t) . phi(k_i)) v_i / (sum_i phi(q_t) . phi(k_i) + epsilon) over the keys that t may see.
///
/// Katharopoulos et al. 2020, arXiv:2006.16236, section 3. The value gets a column of ones, so that numerator
/// and normaliser come from the same products. Features and sums are float32 under bfloat16.
class KernelAttention : public Attention {
 public:
  /// Added to the normaliser, so that a query whose every product underflows gives zeros and not NaN.
  /// Katharopoulos's value; it moves an output by a relative 1e-6 / normaliser.
  static constexpr double usual_epsilon = 1e-6;

  Tensor forward(const Inputs& in) override;

  /// One tensor [B, G, F, E + 1]: the sum of phi(k) v^T, and that of phi(k) as its last column.
  State new_state(int64_t batch, torch::TensorOptions options) const override;
  Tensor decode(const Inputs& in, State& state) override;

 protected:
  struct Shape {
    const char* name;
    int64_t chunk_length;
    int64_t features;  ///< F
    double epsilon = usual_epsilon;  ///< added to the sum of weights that numerators are divided by
    double floor = 0;                ///< and the least that this is taken for
    double map_flops = 0;            ///< of one row's features, where `fused_map` has a projection
  };
  KernelAttention(const Shape& shape, const Geometry& geometry) : Attention(geometry), shape_(shape) {}

  /// phi. @param x [B, heads, T, D], already in the dtype of the sums @param first position of the first row
  /// @return [B, heads, T, F]
  virtual Tensor query_features(const Tensor& x, int64_t first) = 0;
  virtual Tensor key_features(const Tensor& x, int64_t first) = 0;

  /// query [B, H, T, F], key [B, G, S, F] with zeros at padded keys, and where sums decay log_decay [B, G, S]
  struct Features {
    Tensor query, key, log_decay = {};
  };
  /// What a call works with; `state` while decoding, otherwise null. For variants that need more than the two maps.
  virtual Features features(const Inputs& in, State* state);

  /// How `recurrence_kernel` makes the features from query and key itself, without padding; nothing: it is given them.
  struct FusedMap {
    FeatureMap map = FeatureMap::none;
    double offset = 0;
    Tensor projection = {};
  };
  virtual std::optional<FusedMap> fused_map() const { return std::nullopt; }

  /// @param map_flops  of one row's feature map
  static Cost cost_of(const Geometry& geometry, const Sizes& sizes, int64_t features, int64_t chunk_length,
                      double map_flops = 0, bool decays = false);

 private:
  /// By `recurrence_kernel`; undefined where it does not apply.
  Tensor forward_by_kernel(const Inputs& in);
  Tensor divided(const Tensor& sums, torch::ScalarType type) const;

  Shape shape_;
};

}  // namespace attnscale

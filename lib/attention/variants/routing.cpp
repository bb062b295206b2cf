// Routing attention: a position sees those of its own cluster, by learnt centroids.
// Roy et al. 2020, arXiv:2003.05997, section 4.1.
//
// B batch, H heads, T positions, C clusters, D key width, M width of the residual stream
//
// Not here: the local-attention heads that the paper puts beside these, which another layer of the model can be.

#include <algorithm>
#include <cmath>

#include <ATen/ops/argmax.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/randn.h>

#include "attention/blocks.h"
#include "attention/bucket_attention.h"
#include "attention/registry.h"

namespace attnscale {
namespace {

/// y_t = sum_i softmax_i(q_t . k_i / sqrt(D)) v_i over the latest `window` members of t's cluster, argmax_c mu_c . q_t
/// / |mu_c|, where q = k is the shared projection brought to mean 0 and variance 1 (layer norm without weights).
///
/// Where we differ from the paper: each cluster there takes the positions of the whole sequence nearest to its
/// centroid, so that a later position can push an earlier one out; here a position chooses its cluster by itself, and a
/// query looks back inside it (bucket_attention.h). Query and key are shared, as there in causal models, in
/// bidirectional ones too. Centroids follow the gradient of the k-means loss, mean |q - mu|^2 / D, which is added to
/// the training loss and moves nothing else; there they follow a running mean, of which that is the same fixed point.
/// They start normal.
class Routing : public BucketAttention {
 public:
  struct Options {
    int64_t clusters = 8;
    int64_t window = 64;
    static Fields fields() {
      return {
          field(&Options::clusters, "clusters", "centroids of each head").between(1, 65536).in("clusters"),
          field(&Options::window, "window",
                "members of its cluster that a query sees, its own position included; bidirectional: half of them on "
                "either side")
              .between(1, 65536)
              .in("positions")};
    }
    BucketAttention::Buckets shared() const { return {.rounds = 1, .window = window}; }
  };

  Routing(const Options& options, const Geometry& geometry) : BucketAttention(geometry, options.shared()) {
    centroids_ = register_parameter("centroids", at::randn({geometry.num_heads, options.clusters, geometry.head_dim}));
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    return projection_parameters(geometry) + geometry.num_heads * options.clusters * geometry.head_dim;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    auto cost = bucket_cost(geometry, options.shared(), sizes);
    const double choosing = 2.0 * static_cast<double>(sizes.batch * geometry.num_heads * sizes.queries) *
                            static_cast<double>(geometry.head_dim * options.clusters);
    cost.algorithmic_flops += choosing;
    cost.executed_flops += choosing;
    return cost;
  }

 protected:
  Pair looked_up(const Tensor& shared) const override {
    const auto normal = at::layer_norm(shared, {shared.size(-1)}, {}, {}, routing_epsilon);
    return {normal, normal};
  }

  Pair oracle_pair(const Tensor& shared) const override {
    const auto centred = shared - shared.mean();
    const auto normal = centred / (centred.square().mean() + routing_epsilon).sqrt();
    return {normal, normal};
  }

  Tensor assigned(const Tensor& shared) const override {
    const torch::NoGradGuard choosing_has_no_gradient;
    const auto directions = unit_rows(centroids_.to(shared.scalar_type()));                    // [H, C, D]
    return at::argmax(at::matmul(looked_up(shared).query, directions.mT()), -1).unsqueeze(2);  // [B, H, 1, T]
  }

  std::vector<int64_t> oracle_buckets(const Tensor& shared, int64_t head) const override {
    const auto centred = shared - shared.mean();
    const auto centroids = centroids_[head].detach().to(torch::kFloat64);
    const auto scores = (at::mv(centroids, centred) / centroids.norm(2, 1)).contiguous();
    const auto* score = scores.const_data_ptr<double>();
    return {std::max_element(score, score + scores.size(0)) - score};
  }

  void observe(const Tensor& shared, const Tensor& key_padding) override {
    const auto cluster = assigned(shared.detach()).squeeze(2);  // [B, H, T]
    const auto normal = looked_up(shared.detach()).query;       // [B, H, T, D]
    const auto centroids = centroids_.to(normal.scalar_type());
    const int64_t batch = normal.size(0), heads = normal.size(1), width = normal.size(3);
    const auto own = centroids.unsqueeze(0)
                         .expand({batch, -1, -1, -1})
                         .gather(2, cluster.unsqueeze(3).expand({-1, -1, -1, width}));  // [B, H, T, D]
    auto squares = (own - normal).square().mean(-1);                                    // [B, H, T]
    auto count = static_cast<double>(squares.numel());
    if (key_padding.defined()) {
      squares = squares * key_padding.unsqueeze(1);
      count = std::max(1.0, key_padding.sum().item<double>() * static_cast<double>(heads));
    }
    auxiliary_loss_ = squares.sum() / count;
  }

 private:
  static constexpr double routing_epsilon = 1e-5;  // of the layer norm: the customary value
  Tensor centroids_;                               // [H, C, D]
};

// Six seeds: 0.026 without the worst 20 % of rows, 0.09 with all.
const Deviation routing_rounding{
    .tolerance = 0.04, .reason = "rounding moves a position to another cluster, where it sees others", .outliers = 0.2};

const Register<Routing> register_routing{{
    .name = "routing",
    .family = "sparse",
    .summary = "softmax inside k-means clusters, queries and keys shared; decoding assigns the whole cache again "
               "at each step",
    .equation =
        "y_t = sum_i softmax_i(q_t . q_i / sqrt(D)) v_i over the latest `window` members of t's cluster, argmax_c "
        "mu_c . q_t / |mu_c|; q layer-normalised; loss += mean |q - mu|^2 / D",
    .source =
        "Roy et al. 2020, arXiv:2003.05997, section 4.1; windows inside clusters in place of balanced clusters, so "
        "that membership does not leak",
    .traits = {Trait::causal, Trait::bidirectional, Trait::padding, Trait::incremental, Trait::owns_projections,
               Trait::content_dependent},
    .time_complexity = "T (window (D + E) + clusters D + M H (D + 2 E))",
    .state_complexity = "T (D + E)",
    .samples = {Json{{"clusters", 3}, {"window", 7}}, Json{{"clusters", 2}, {"window", 20}}},
    .deviations = {{"bfloat16_distance", routing_rounding}, {"mixed_precision_distance", routing_rounding}},
}};

}  // namespace
}  // namespace attnscale

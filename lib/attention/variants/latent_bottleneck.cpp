// Latent bottleneck: a few learnt latents attend to the whole sequence and to each other, and queries read the latents.
// Jaegle et al. 2021 (Perceiver), arXiv:2103.03206, section 3, with the read-out of Lee et al. 2019 (Set Transformer's
// ISAB), arXiv:1810.00825, section 3.1.
//
// B batch, H heads, T positions, L latents, M width of the residual stream, D key width, E value width
//
// Not here: latents that read the sequence again later, as Perceiver's may.

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/erf.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/generated/variable_factories.h>

#include "attention/masks.h"
#include "attention/oracle_helpers.h"
#include "attention/projections.h"
#include "attention/registry.h"
#include "core/error.h"
#include "tensor/shapes.h"

namespace attnscale {
namespace {

constexpr double latent_norm_epsilon = 1e-5;

/// Attention from one sequence to another with its own projections, without biases.
class LatentReader : public torch::nn::Module {
 public:
  explicit LatentReader(const Geometry& geometry) : geometry_(geometry) {
    const int64_t H = geometry.num_heads, M = geometry.model_dim;
    query_ = register_module("query", input_projection(M, H * geometry.head_dim));
    key_ = register_module("key", input_projection(M, H * geometry.head_dim));
    value_ = register_module("value", input_projection(M, H * geometry.value_dim));
    output_ = register_module("output", output_projection(H * geometry.value_dim, M, geometry.depth));
  }

  /// @param to [B or 1, Q, M], from [B, S, M], real bool [B, S] or undefined @return [B, Q, M]
  Tensor forward(const Tensor& to, const Tensor& from, const Tensor& real) const {
    const auto by_head = [&](const Tensor& x) {
      return x.view({x.size(0), x.size(1), geometry_.num_heads, -1}).transpose(1, 2);
    };
    const auto query = by_head(query_->forward(to)).expand({from.size(0), -1, -1, -1});
    const auto mixed = softmax_attention(query, by_head(key_->forward(from)), by_head(value_->forward(from)), false,
                                         visible_keys({}, real));  // [B, H, Q, E]
    return output_->forward(mixed.transpose(1, 2).flatten(2));
  }

  static int64_t parameter_count(const Geometry& geometry) {
    return 2 * geometry.model_dim * geometry.num_heads * (geometry.head_dim + geometry.value_dim);
  }

  /// @param batches  how many different `to` there are
  static double flops(const Geometry& geometry, double batch, double batches, double to, double from) {
    const double d = geometry.head_dim, e = geometry.value_dim, heads = geometry.num_heads, model = geometry.model_dim;
    return 2 * heads *
           (batches * to * model * d + batch * (from * model + to * from) * (d + e) + batch * to * e * model);
  }

 private:
  Geometry geometry_;
  std::shared_ptr<Linear> query_, key_, value_, output_;
};

/// LayerNorm with weight and bias.
class LatentNorm : public torch::nn::Module {
 public:
  explicit LatentNorm(int64_t width)
      : weight_(register_parameter("weight", torch::ones({width}))),
        bias_(register_parameter("bias", torch::zeros({width}))) {}
  Tensor forward(const Tensor& x) const { return at::layer_norm(x, {x.size(-1)}, weight_, bias_, latent_norm_epsilon); }

 private:
  Tensor weight_, bias_;
};

/// x + down(gelu(up(norm(x)))), as wide inside as outside (Perceiver's widening factor 1; ISAB has one layer there).
class LatentFeedForward : public torch::nn::Module {
 public:
  LatentFeedForward(int64_t width, int64_t depth) {
    norm_ = register_module("norm", std::make_shared<LatentNorm>(width));
    up_ = register_module("up", input_projection(width, width, /*with_bias=*/true));
    down_ = register_module("down", output_projection(width, width, depth, /*with_bias=*/true));
  }
  Tensor forward(const Tensor& x) const { return x + down_->forward(at::gelu(up_->forward(norm_->forward(x)))); }

  static int64_t parameter_count(int64_t width) { return 2 * width + 2 * width * (width + 1); }

 private:
  std::shared_ptr<LatentNorm> norm_;
  std::shared_ptr<Linear> up_, down_;
};

/// z = z_0 + attend(norm z_0 -> x), z = z + feed_forward(norm z); for each latent layer z = z + attend(norm z -> norm
/// z) and z = z + feed_forward(norm z); y = attend(x -> norm z). Norms come first, as in Perceiver; ISAB has them last.
/// Without latent layers this is an ISAB whose outer residual, norm and feed-forward are those of the model's block.
///
/// A latent mixes all positions, so there is no causal form. Padded positions are not read; in a row without real
/// positions the output is zero. z_0 starts as N(0, 0.02), as in Perceiver; the norm makes it the size of a stream.
///
/// Reads the residual stream itself, since latents need keys and values of their own.
class LatentBottleneck : public Attention {
 public:
  struct Options {
    int64_t latents = 32;
    int64_t latent_layers = 1;
    static Fields fields() {
      return {field(&Options::latents, "latents", "learnt vectors that read the sequence and are read").at_least(1),
              field(&Options::latent_layers, "latent_layers",
                    "self-attention layers among the latents between reading and being read; 0 is ISAB")
                  .between(0, 64)};
    }
  };

  LatentBottleneck(const Options& options, const Geometry& geometry) : Attention(geometry) {
    const int64_t M = geometry.model_dim;
    start_ = register_parameter("start", torch::randn({options.latents, M}) * 0.02);
    for (int64_t i = 0; i <= options.latent_layers; ++i) {  // layer 0 reads the sequence
      const auto name = [&](const char* part) { return fmt::format("{}{}", part, i); };
      norms_.push_back(register_module(name("norm"), std::make_shared<LatentNorm>(M)));
      attention_.push_back(register_module(name("attention"), std::make_shared<LatentReader>(geometry)));
      feed_forward_.push_back(
          register_module(name("feed_forward"), std::make_shared<LatentFeedForward>(M, geometry.depth)));
    }
    final_norm_ = register_module("final_norm", std::make_shared<LatentNorm>(M));
    read_ = register_module("read", std::make_shared<LatentReader>(geometry));
  }

  Tensor forward(const Inputs& in) override {
    const auto letters = check_shapes("latent_bottleneck", {{"hidden", in.hidden, "B 1 T M"}});
    if (letters.at("M") != geometry_.model_dim)
      throw ShapeError(fmt::format("latent_bottleneck: hidden is {} wide; it was built for {}", letters.at("M"),
                                   geometry_.model_dim));
    const auto x = in.hidden.squeeze(1);                     // [B, T, M]
    auto latents = start_.to(x.scalar_type()).unsqueeze(0);  // [1, L, M] until they have read
    for (size_t i = 0; i < attention_.size(); ++i) {
      const auto normed = norms_[i]->forward(latents);
      const auto read =
          i == 0 ? attention_[i]->forward(normed, x, in.key_padding) : attention_[i]->forward(normed, normed, {});
      latents = feed_forward_[i]->forward(latents + read);
    }
    auto output = read_->forward(x, final_norm_->forward(latents), {});
    if (in.key_padding.defined()) output = output.masked_fill(in.key_padding.any(1).logical_not().view({-1, 1, 1}), 0);
    return output.unsqueeze(1);
  }

  Tensor oracle(const Inputs& in) const override {
    using namespace oracle;
    const auto parameters = named_parameters();
    const auto parameter = [&](const std::string& name) { return in_double(parameters[name]); };
    const auto norm = [&](const std::string& name, const Tensor& x) {  // [M]
      const auto centred = x - x.mean();
      const auto spread = (centred.pow(2).mean() + latent_norm_epsilon).sqrt();
      return centred / spread * parameter(name + ".weight") + parameter(name + ".bias");
    };
    const auto gelu = [](const Tensor& x) { return x * 0.5 * (1 + at::erf(x / std::sqrt(2.0))); };
    using Vectors = std::vector<Tensor>;
    const auto each = [](const Vectors& rows, const auto& change) {
      Vectors result;
      for (const auto& row : rows) result.push_back(change(row));
      return result;
    };
    const auto read = [&](const std::string& name, const Vectors& to, const Vectors& from) {
      const auto product = [&](const char* part) {
        return [weight = parameter(name + part)](const Tensor& x) { return at::mv(weight, x); };
      };
      const auto queries = each(to, product(".query.weight")), keys = each(from, product(".key.weight"));
      const auto values = each(from, product(".value.weight"));
      const auto head = [](const Tensor& x, int64_t h, int64_t width) { return x.narrow(0, h * width, width); };
      std::vector<Vectors> head_keys, head_values;
      for (int64_t h = 0; h < geometry_.num_heads; ++h) {
        head_keys.push_back(each(keys, [&](const Tensor& k) { return head(k, h, geometry_.head_dim); }));
        head_values.push_back(each(values, [&](const Tensor& v) { return head(v, h, geometry_.value_dim); }));
      }
      return each(each(queries,
                       [&](const Tensor& q) {
                         Vectors parts;
                         for (int64_t h = 0; h < geometry_.num_heads; ++h)
                           parts.push_back(attend(head(q, h, geometry_.head_dim), head_keys[h], head_values[h],
                                                  geometry_.value_dim));
                         return at::cat(parts);
                       }),
                  product(".output.weight"));
    };
    const auto hidden = rows_of(in.hidden);
    Vectors outputs;
    for (int64_t b = 0; b < in.hidden.size(0); ++b) {
      Vectors real;
      for (int64_t i = 0; i < in.hidden.size(2); ++i)
        if (is_real(in, b, i)) real.push_back(hidden[b][0][i]);
      if (real.empty()) {
        for (int64_t i = 0; i < in.hidden.size(2); ++i)
          outputs.push_back(at::zeros({geometry_.model_dim}, hidden[b][0][i].options()));
        continue;
      }
      auto latents = parameter("start").unbind(0);
      for (size_t layer = 0; layer < attention_.size(); ++layer) {
        const auto name = [&](const char* part) { return fmt::format("{}{}", part, layer); };
        const auto normed = each(latents, [&](const Tensor& z) { return norm(name("norm"), z); });
        const auto changes = read(name("attention"), normed, layer == 0 ? real : normed);
        for (size_t i = 0; i < latents.size(); ++i) latents[i] = latents[i] + changes[i];
        const auto feed = name("feed_forward");
        latents = each(latents, [&](const Tensor& z) {
          const auto inside =
              gelu(at::mv(parameter(feed + ".up.weight"), norm(feed + ".norm", z)) + parameter(feed + ".up.bias"));
          return z + at::mv(parameter(feed + ".down.weight"), inside) + parameter(feed + ".down.bias");
        });
      }
      const auto normed = each(latents, [&](const Tensor& z) { return norm("final_norm", z); });
      for (const auto& y : read("read", hidden[b][0], normed)) outputs.push_back(y);
    }
    return at::stack(outputs).view(in.hidden.sizes());
  }

  static int64_t parameter_count(const Options& options, const Geometry& geometry) {
    const int64_t M = geometry.model_dim, reader = LatentReader::parameter_count(geometry);
    return options.latents * M +
           (options.latent_layers + 1) * (2 * M + reader + LatentFeedForward::parameter_count(M)) + 2 * M + reader;
  }

  static Cost cost(const Options& options, const Geometry& geometry, const Sizes& sizes) {
    const double batch = sizes.batch, positions = sizes.keys, queries = sizes.queries, model = geometry.model_dim;
    const double latents = options.latents, layers = options.latent_layers, heads = geometry.num_heads;
    const double d = geometry.head_dim, e = geometry.value_dim;
    Cost cost;
    cost.executed_flops = LatentReader::flops(geometry, batch, 1, latents, positions) +
                          layers * LatentReader::flops(geometry, batch, batch, latents, latents) +
                          (layers + 1) * 4 * batch * latents * model * model +
                          LatentReader::flops(geometry, batch, batch, queries, latents);
    cost.algorithmic_flops = cost.executed_flops;
    // For each reader its query, key, value and mixed heads; for each layer of the latents norms and the inside of the
    // feed-forward; unequal widths keep the weights too.
    double kept = batch * heads * ((positions + queries) * (d + e) + (1 + layers) * latents * 2 * (d + e));
    kept += batch * latents * model * 5 * (1 + layers);
    if (d != e) kept += batch * heads * latents * (positions + queries + layers * latents);
    cost.activation_bytes = static_cast<int64_t>(float_bytes * kept);
    return cost;
  }

 private:
  Tensor start_;
  std::vector<std::shared_ptr<LatentNorm>> norms_;
  std::vector<std::shared_ptr<LatentReader>> attention_;
  std::vector<std::shared_ptr<LatentFeedForward>> feed_forward_;
  std::shared_ptr<LatentNorm> final_norm_;
  std::shared_ptr<LatentReader> read_;
};

const Register<LatentBottleneck> register_latent_bottleneck{{
    .name = "latent_bottleneck",
    .family = "low-rank",
    .summary = "learnt latents read the sequence, attend to each other, and are read by every position",
    .equation = "z = z_0 + attend(norm z_0 -> x); z = z + ff(norm z); latent_layers times z = z + attend(norm z), "
                "z = z + ff(norm z); y = attend(x -> norm z)",
    .source = "Jaegle et al. 2021, arXiv:2103.03206, section 3; latent_layers 0: Lee et al. 2019, arXiv:1810.00825, "
              "section 3.1, with norms first",
    .traits = {Trait::bidirectional, Trait::padding, Trait::owns_projections},
    .time_complexity = "T (latents (D + E) + M (D + E))",
    .state_complexity = "none",
    .samples = {Json{{"latents", 5}, {"latent_layers", 0}}, Json{{"latents", 4}, {"latent_layers", 2}}},
}};

}  // namespace
}  // namespace attnscale

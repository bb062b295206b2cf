#include "model/options.h"

#include <algorithm>
#include <cmath>

namespace attnscale {

namespace {

bool has_encoder(const ModelOptions& o) { return o.head == "encoder_decoder"; }

bool is_mixture(const ModelOptions& o) { return o.experts > 1; }

bool is_yarn(const ModelOptions& o) { return o.position == "rotary" && o.rotary_scaling == "yarn"; }

}  // namespace

const Fields& ModelOptions::fields() {
  static const Fields list = {
      field(&ModelOptions::depth, "depth", "blocks, each a mixer and a feed-forward network").between(1, 1024),
      field(&ModelOptions::model_dim, "model_dim", "width of the residual stream; a multiple of num_heads")
          .between(1, 65536),
      field(&ModelOptions::num_heads, "num_heads", "attention heads in each block").between(1, 1024),
      field(&ModelOptions::num_kv_heads, "num_kv_heads",
            "key-value heads, a divisor of num_heads (1: multi-query); left out: num_heads")
          .between(1, 1024),
      field(&ModelOptions::vocab_size, "vocab_size",
            "tokens the model knows; left out: the source's vocabulary, with head masked_token and the mask")
          .between(2, 16777216),
      field(&ModelOptions::head, "head",
            "what the model is asked for: the token after each position; every input again from the state at the last "
            "position, by two layers of width model_dim and sinusoids (Poli et al. 2024); some inputs that were hidden "
            "(Devlin et al. 2018), of which no source knows the Bayes loss; one answer about the window; or the token "
            "after each position of the window's second part, by a decoder that also looks at an encoder's states of "
            "the first (Vaswani et al. 2017). The source says which it serves")
          .one_of({"next_token", "reconstruct", "masked_token", "classify", "encoder_decoder"}),
      field(&ModelOptions::mask_probability, "mask_probability",
            "share of each window's inputs that is asked for, at least one: 8 in 10 hidden by the mask, 1 replaced by "
            "a random token, 1 as it is (Devlin et al. 2018)")
          .between(0, 1)
          .above(0)
          .only_with<ModelOptions>("head masked_token", [](const ModelOptions& o) { return o.head == "masked_token"; }),
      field(&ModelOptions::pooling, "pooling", "of the positions whose state answers for the window")
          .one_of({"mean", "first", "last"})
          .only_with<ModelOptions>("head classify", [](const ModelOptions& o) { return o.head == "classify"; }),
      field(&ModelOptions::causal, "causal",
            "whether a position sees none after it; left out: false for heads masked_token and classify, otherwise "
            "true; an encoder sees both ways"),
      field(&ModelOptions::input_length, "input_length",
            "tokens of a window that the encoder reads; the decoder starts from the last of them. Left out: as the "
            "source says, otherwise half of the context")
          .between(1, 1 << 20)
          .in("tokens")
          .only_with<ModelOptions>("head encoder_decoder", has_encoder),
      field(&ModelOptions::encoder_depth, "encoder_depth", "blocks of the encoder; left out: depth")
          .between(1, 1024)
          .only_with<ModelOptions>("head encoder_decoder", has_encoder),
      field(&ModelOptions::ffn_dim, "ffn_dim",
            "width inside the feed-forward network; left out: 4 model_dim, for gated ones 8/3 model_dim rounded up to "
            "a multiple of 8")
          .between(1, 1048576),
      field(&ModelOptions::ffn_multiple, "ffn_multiple",
            "gives ffn_dim as a multiple of model_dim, rounded to a whole number; left out: ffn_dim says it")
          .between(0, 1024)
          .above(0),
      field(
          &ModelOptions::position, "position",
          "how positions enter: a learned vector, sinusoids (Vaswani et al. 2017), rotary queries and keys (Su et al. "
          "2021), a slope on the logits for each head (ALiBi, Press et al. 2021), a learned number on the logits for "
          "each head and range of distances (T5, Raffel et al. 2019), or not at all")
          .one_of({"learned", "sinusoidal", "rotary", "alibi", "relative", "none"}),
      field(&ModelOptions::norm, "norm",
            "normalisation at the places of norm_placement: LayerNorm (Ba et al. 2016), RMSNorm (Zhang and Sennrich "
            "2019), weight tanh(alpha x) + bias (Zhu et al. 2025), or none")
          .one_of({"layer_norm", "rms_norm", "dynamic_tanh", "none"}),
      field(&ModelOptions::norm_placement, "norm_placement",
            "where blocks normalise: what a sublayer reads (GPT-2), the stream after it (Vaswani et al. 2017), both "
            "what a sublayer reads and what it writes (Gemma 2), the stream after alpha x + sublayer(x) (Wang et al. "
            "2022), or once for attention and feed-forward side by side (GPT-J)")
          .one_of({"before", "after", "both", "deep_norm", "parallel"})
          .only_with<ModelOptions>("a norm, or placement parallel or deep_norm",
                                   [](const ModelOptions& o) {
                                     return o.norm != "none" || o.norm_placement == "parallel" ||
                                            o.norm_placement == "deep_norm";
                                   }),
      field(&ModelOptions::final_norm, "final_norm",
            "normalise before the head; left out: true, except where norm is none or blocks end in a norm (after, "
            "deep_norm)"),
      field(&ModelOptions::qk_norm, "qk_norm",
            "normalise each head's query and key, before rotary positions, with a weight for each number of a head "
            "(Dehghani et al. 2023)")
          .one_of({"none", "layer_norm", "rms_norm"}),
      field(&ModelOptions::logit_scale, "logit_scale",
            "what scales the product of a query and a key of width D: root 1 / sqrt(D) (Vaswani et al. 2017), inverse "
            "1 / D (Yang et al. 2022), none 1; others than root for variants with logits")
          .one_of({"root", "inverse", "none"})
          .only_with<ModelOptions>("no mup_base_dim, which scales the logits itself",
                                   [](const ModelOptions& o) { return !o.mup_base_dim; }),
      field(&ModelOptions::dynamic_tanh_alpha, "dynamic_tanh_alpha", "where alpha of norm dynamic_tanh starts")
          .between(0, 1000)
          .above(0)
          .only_with<ModelOptions>("norm dynamic_tanh", [](const ModelOptions& o) { return o.norm == "dynamic_tanh"; }),
      field(&ModelOptions::residual, "residual",
            "factor of what a sublayer adds to the stream: 1, 1 / sqrt(2 depth), a learned number that starts at 0 "
            "(Bachlechner et al. 2020), or learned numbers for each column (Touvron et al. 2021)")
          .one_of({"plain", "scaled", "rezero", "layer_scale"}),
      field(&ModelOptions::layer_scale, "layer_scale", "where the numbers of residual layer_scale start")
          .between(0, 1000)
          .above(0)
          .only_with<ModelOptions>("residual layer_scale",
                                   [](const ModelOptions& o) { return o.residual == "layer_scale"; }),
      field(&ModelOptions::stochastic_depth, "stochastic_depth",
            "probability that a row skips a sublayer of the last block while training; it grows linearly with the "
            "depth from the first block on (Huang et al. 2016)")
          .between(0, 0.95),
      field(&ModelOptions::feed_forward, "feed_forward",
            "activation: exact GELU, its tanh form (GPT-2), ReLU, its square (So et al. 2021), SiLU; or gated by SiLU, "
            "GELU, its tanh form or ReLU (Shazeer 2020)")
          .one_of({"gelu", "gelu_tanh", "relu", "relu_squared", "silu", "swiglu", "geglu", "geglu_tanh", "reglu"}),
      field(
          &ModelOptions::experts, "experts",
          "feed-forward networks of each block, of which a router picks some for each position (Shazeer et al. 2017); "
          "1: one, without a router")
          .between(1, 4096),
      field(&ModelOptions::experts_per_token, "experts_per_token",
            "experts that a position uses, at most `experts`, weighted by a softmax over them; of 1 by the router's "
            "probability (Fedus et al. 2022)")
          .between(1, 4096)
          .only_with<ModelOptions>("experts above 1", is_mixture),
      field(&ModelOptions::balance_loss, "balance_loss",
            "weight in the training loss of experts x sum of share of choices x mean probability (Fedus et al. 2022)")
          .between(0, 100)
          .only_with<ModelOptions>("experts above 1", is_mixture),
      field(&ModelOptions::router_z_loss, "router_z_loss",
            "weight in the training loss of the mean square of the router's log-sum-exp (Zoph et al. 2022)")
          .between(0, 100)
          .only_with<ModelOptions>("experts above 1", is_mixture),
      field(&ModelOptions::bias, "bias",
            "biases of linear layers, LayerNorm and dynamic tanh; RMSNorm, qk_norm, a factorised embedding and the "
            "head have none"),
      field(&ModelOptions::tie_embeddings, "tie_embeddings", "the head uses the token embedding's weights"),
      field(&ModelOptions::embedding_dim, "embedding_dim",
            "width of the token embedding (and of the head's), mapped to model_dim by a matrix (Lan et al. 2019); left "
            "out: model_dim, without that matrix")
          .between(1, 65536),
      field(&ModelOptions::embedding_scale, "embedding_scale",
            "multiply token embeddings by sqrt(model_dim) (Vaswani et al. 2017), with mup_base_dim by its root; left "
            "out: "
            "with sinusoidal positions only"),
      field(&ModelOptions::embedding_norm, "embedding_norm", "normalise embeddings and positions before the blocks")
          .only_with<ModelOptions>("a norm", [](const ModelOptions& o) { return o.norm != "none"; }),
      field(&ModelOptions::initialisation, "initialisation",
            "of the blocks' matrices: N(0, 0.02) with those that write into the stream narrower by 1 / sqrt(2 depth) "
            "(GPT-2), uniform of variance 2 / (in + out) (Glorot and Bengio 2010), N(0, 2 / in) (He et al. 2015), "
            "N(0, 2 / (5 model_dim)) (Nguyen and Salazar 2019), N(0, 2 / (in + out)) with value, output and "
            "feed-forward matrices narrower by (8 depth)^(-1/4) (Wang et al. 2022), or orthogonal (Saxe et al. 2013); "
            "left out: gpt2, for norm_placement deep_norm deep_norm")
          .one_of({"gpt2", "xavier", "kaiming", "small", "deep_norm", "orthogonal"}),
      field(&ModelOptions::embedding_std, "embedding_std",
            "standard deviation of token and position embeddings, relative positions and an untied head at the start")
          .between(0, 100)
          .above(0),
      field(&ModelOptions::mup_base_dim, "mup_base_dim",
            "maximal update parametrisation (Yang et al. 2022): the learning rate that is best at this model_dim stays "
            "so "
            "at any other; a model of this width is what it is without; left out: the standard parametrisation")
          .between(1, 65536),
      field(&ModelOptions::mup_base_heads, "mup_base_heads",
            "heads of the model of width mup_base_dim; left out: num_heads, so that wider models have wider heads; "
            "where they have more heads, say how many the base has")
          .between(1, 1024)
          .only_with<ModelOptions>("mup_base_dim", [](const ModelOptions& o) { return o.mup_base_dim.has_value(); }),
      field(&ModelOptions::dropout, "dropout",
            "share of numbers zeroed while training, after the embedding and after each sublayer")
          .between(0, 0.95),
      field(&ModelOptions::embedding_dropout, "embedding_dropout",
            "share of numbers zeroed after the embedding while training; left out: dropout")
          .between(0, 0.95),
      field(&ModelOptions::norm_epsilon, "norm_epsilon", "added to the variance before its root")
          .between(0, 1)
          .above(0)
          .only_with<ModelOptions>("norm or qk_norm layer_norm or rms_norm",
                                   [](const ModelOptions& o) {
                                     return o.norm == "layer_norm" || o.norm == "rms_norm" || o.qk_norm != "none";
                                   }),
      field(&ModelOptions::rotary_base, "rotary_base", "rotary wavelengths go from 2 pi up to nearly 2 pi times this")
          .between(1, 1e9)
          .above(1)
          .in("positions")
          .only_with<ModelOptions>("position rotary", [](const ModelOptions& o) { return o.position == "rotary"; }),
      field(&ModelOptions::rotary_share, "rotary_share",
            "share of each head's numbers that rotary positions turn, the first ones; an even number of them")
          .between(0, 1)
          .above(0)
          .only_with<ModelOptions>("position rotary", [](const ModelOptions& o) { return o.position == "rotary"; }),
      field(&ModelOptions::rotary_scaling, "rotary_scaling",
            "how rotary angles fit a context rotary_factor times as long: all divided by it (Chen et al. 2023), a "
            "larger base (NTK-aware), or each by its wavelength (YaRN, Peng et al. 2023)")
          .one_of({"none", "linear", "ntk", "yarn"})
          .only_with<ModelOptions>("position rotary", [](const ModelOptions& o) { return o.position == "rotary"; }),
      field(&ModelOptions::rotary_factor, "rotary_factor", "factor of rotary_scaling")
          .between(1, 1e6)
          .only_with<ModelOptions>(
              "position rotary and a rotary_scaling",
              [](const ModelOptions& o) { return o.position == "rotary" && o.rotary_scaling != "none"; }),
      field(&ModelOptions::rotary_trained_context, "rotary_trained_context",
            "context that yarn takes wavelengths to be made for; left out: data.context / rotary_factor, rounded")
          .between(1, 1 << 20)
          .in("positions")
          .only_with<ModelOptions>("position rotary and rotary_scaling yarn", is_yarn),
      field(&ModelOptions::relative_buckets, "relative_buckets",
            "ranges of distances of position relative; half of them are single distances")
          .between(2, 4096)
          .only_with<ModelOptions>("position relative", [](const ModelOptions& o) { return o.position == "relative"; }),
      field(&ModelOptions::relative_distance, "relative_distance",
            "from this distance on all share the last range of position relative")
          .between(2, 1 << 20)
          .in("positions")
          .only_with<ModelOptions>("position relative", [](const ModelOptions& o) { return o.position == "relative"; }),
  };
  return list;
}

bool is_gated(const std::string& feed_forward) {
  return feed_forward == "swiglu" || feed_forward == "geglu" || feed_forward == "geglu_tanh" || feed_forward == "reglu";
}

ModelOptions resolved(ModelOptions options, int64_t source_vocab, std::optional<int64_t> context) {
  if (!options.num_kv_heads) options.num_kv_heads = options.num_heads;
  if (!options.vocab_size) options.vocab_size = source_vocab + (options.head == "masked_token" ? 1 : 0);
  if (!options.ffn_dim && options.ffn_multiple) options.ffn_dim = multiple_of(options);
  if (!options.causal) options.causal = options.head != "masked_token" && options.head != "classify";
  if (has_encoder(options) && !options.encoder_depth) options.encoder_depth = options.depth;
  if (!options.ffn_dim) {
    // Gated networks have three matrices where others have two: 8/3 keeps the count (Shazeer 2020, arXiv:2002.05202,
    // section 3).
    const int64_t two_thirds = (8 * options.model_dim + 2) / 3;
    options.ffn_dim = is_gated(options.feed_forward) ? (two_thirds + 7) / 8 * 8 : 4 * options.model_dim;
  }
  // One that clashes with ffn_dim stays, for `idle_options` to refuse.
  if (options.ffn_multiple && multiple_of(options) == *options.ffn_dim) options.ffn_multiple.reset();
  const bool ends_in_norm = options.norm_placement == "after" || options.norm_placement == "deep_norm";
  if (!options.final_norm) options.final_norm = options.norm != "none" && !ends_in_norm;
  if (!options.embedding_dim) options.embedding_dim = options.model_dim;
  if (!options.embedding_scale) options.embedding_scale = options.position == "sinusoidal";
  if (!options.initialisation) options.initialisation = options.norm_placement == "deep_norm" ? "deep_norm" : "gpt2";
  if (!options.embedding_dropout) options.embedding_dropout = options.dropout;
  if (options.mup_base_dim && !options.mup_base_heads) options.mup_base_heads = options.num_heads;
  if (options.mup_base_dim == options.model_dim && options.mup_base_heads == options.num_heads) {
    options.mup_base_dim.reset();
    options.mup_base_heads.reset();
  }
  if (context && is_yarn(options)) options.rotary_trained_context = trained_context(options, *context);
  return options;
}

int64_t num_outputs(const ModelOptions& options, int64_t context) {
  if (options.head == "encoder_decoder") return context + 1 - options.input_length.value();
  return options.head == "classify" ? 1 : context;
}

double width_multiple(const ModelOptions& options) {
  if (!options.mup_base_dim) return 1;
  return static_cast<double>(options.model_dim) / static_cast<double>(*options.mup_base_dim);
}

double head_width_multiple(const ModelOptions& options) {
  const double heads = static_cast<double>(options.num_heads);
  return width_multiple(options) * static_cast<double>(options.mup_base_heads.value_or(options.num_heads)) / heads;
}

int64_t trained_context(const ModelOptions& options, int64_t context) {
  const double derived = static_cast<double>(context) / options.rotary_factor;
  return options.rotary_trained_context.value_or(std::max<int64_t>(1, std::llround(derived)));
}

int64_t multiple_of(const ModelOptions& options) {
  return std::max<int64_t>(1, std::llround(*options.ffn_multiple * static_cast<double>(options.model_dim)));
}

}  // namespace attnscale

#include "model/options.h"

namespace attnscale {

const Fields& ModelOptions::fields() {
  static const Fields list = {
      field(&ModelOptions::depth, "depth", "blocks, each a mixer and a feed-forward network").between(1, 1024),
      field(&ModelOptions::model_dim, "model_dim", "width of the residual stream; a multiple of num_heads")
          .between(1, 65536),
      field(&ModelOptions::num_heads, "num_heads", "attention heads in each block").between(1, 1024),
      field(&ModelOptions::num_kv_heads, "num_kv_heads",
            "key-value heads, a divisor of num_heads (1: multi-query); left out: num_heads")
          .between(1, 1024),
      field(&ModelOptions::vocab_size, "vocab_size", "tokens the model knows; left out: the source's vocabulary")
          .between(2, 16777216),
      field(&ModelOptions::ffn_dim, "ffn_dim",
            "width inside the feed-forward network; left out: 4 model_dim, for swiglu 8/3 model_dim rounded up to a "
            "multiple of 8")
          .between(1, 1048576),
      field(
          &ModelOptions::position, "position",
          "how positions enter: a learned vector, sinusoids (Vaswani et al. 2017), rotary queries and keys (Su et al. "
          "2021), or not at all")
          .one_of({"learned", "sinusoidal", "rotary", "none"}),
      field(&ModelOptions::norm, "norm", "normalisation before each sublayer and at the end")
          .one_of({"layer_norm", "rms_norm"}),
      field(&ModelOptions::feed_forward, "feed_forward", "activation: exact GELU, its tanh form (GPT-2), or SwiGLU")
          .one_of({"gelu", "gelu_tanh", "swiglu"}),
      field(&ModelOptions::bias, "bias", "biases of linear layers and of LayerNorm; RMSNorm and the head have none"),
      field(&ModelOptions::tie_embeddings, "tie_embeddings", "the head uses the token embedding's weights"),
      field(&ModelOptions::dropout, "dropout",
            "share of numbers zeroed while training, after the embedding and after each sublayer")
          .between(0, 0.95),
      field(&ModelOptions::norm_epsilon, "norm_epsilon", "added to the variance before its root")
          .between(0, 1)
          .above(0),
      field(&ModelOptions::rotary_base, "rotary_base", "rotary wavelengths go from 2 pi up to nearly 2 pi times this")
          .between(1, 1e9)
          .above(1)
          .in("positions"),
  };
  return list;
}

ModelOptions resolved(ModelOptions options, int64_t source_vocab) {
  if (!options.num_kv_heads) options.num_kv_heads = options.num_heads;
  if (!options.vocab_size) options.vocab_size = source_vocab;
  if (!options.ffn_dim) {
    // SwiGLU has three matrices where GELU has two: 8/3 keeps the count (Shazeer 2020, arXiv:2002.05202, section 3).
    const int64_t two_thirds = (8 * options.model_dim + 2) / 3;
    options.ffn_dim = options.feed_forward == "swiglu" ? (two_thirds + 7) / 8 * 8 : 4 * options.model_dim;
  }
  return options;
}

}  // namespace attnscale

"""Models of PyPI's `transformers`, drawn at random, with their weights by our names: what logits_test.py compares.

Each function gives the model, our weights, the options of our model section, and those of our attention section. They
are chosen so that every option of the architecture that a public model has is one of them:

gpt2            the defaults                        llama, llama_tied  rotary, RMSNorm, SwiGLU, grouped heads
gpt1            norm after, no final norm           gemma2             norms on both sides, GEGLU, scaled embedding
phi             parallel blocks                     qwen3              norms of query and key
opt             ReLU, factorised embedding          nemotron           squared ReLU, part of a head turned
bloom           ALiBi, embedding norm               t5                 relative positions, ReLU, no biases
llama_linear, llama_ntk, llama_yarn                 rotary positions for longer contexts
bert            both ways, norm after, embedding norm      t5_encoder  relative positions both ways
gpt2_classifier one answer from the last state             mixtral     two of five experts
t5_both         an encoder and a decoder that looks at it
"""

import torch
import transformers

VOCABULARY, CONTEXT, LAYERS = 97, 48, 3


def randomise(model):
    """Norms' weights near 1, all other numbers of order 0.1."""
    torch.manual_seed(20)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0 if "weight" in name else 0.0, 0.2)
            else:
                parameter.normal_(0.0, 0.1)
    return model.eval()


def translated(source, prefix, ours, names):
    """Our `blocks.<i>.<name>.{weight,bias}` from theirs below `prefix.<i>`; several of theirs are stacked."""
    for layer in range(LAYERS):
        for our, theirs in names.items():
            for kind in ("weight", "bias"):
                parts = [source.get(f"{prefix}.{layer}.{name}.{kind}") for name in theirs.split()]
                if parts[0] is not None:
                    ours[f"blocks.{layer}.{our}.{kind}"] = torch.cat(parts)
    return ours


def named(source, ours, names):
    """Our `<name>.{weight,bias}` outside the blocks."""
    for our, theirs in names.items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" in source:
                ours[f"{our}.{kind}"] = source[f"{theirs}.{kind}"]
    return ours


def from_conv1d(source):
    """Their old linear layers keep [in, out]."""
    return {name: value.t() if ".c_" in name and value.dim() == 2 else value for name, value in source.items()}


def gpt2():
    model = randomise(transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=60, n_layer=LAYERS, n_head=5, activation_function="gelu_new",
        attn_implementation="eager")))
    source = from_conv1d(model.state_dict())
    ours = {"embedding.token": source["transformer.wte.weight"], "embedding.position": source["transformer.wpe.weight"]}
    translated(source, "transformer.h", ours, {
        "norm1": "ln_1", "mixer.qkv": "attn.c_attn", "mixer.output": "attn.c_proj", "norm2": "ln_2",
        "feed_forward.up": "mlp.c_fc", "feed_forward.down": "mlp.c_proj"})
    named(source, ours, {"final_norm": "transformer.ln_f"})
    options = {"depth": LAYERS, "model_dim": 60, "num_heads": 5, "vocab_size": VOCABULARY, "feed_forward": "gelu_tanh"}
    return model, ours, options, {}


def gpt1():
    model = randomise(transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=60, n_layer=LAYERS, n_head=5, afn="gelu")))
    source = from_conv1d(model.state_dict())
    ours = {"embedding.token": source["transformer.tokens_embed.weight"],
            "embedding.position": source["transformer.positions_embed.weight"]}
    translated(source, "transformer.h", ours, {
        "norm1": "ln_1", "mixer.qkv": "attn.c_attn", "mixer.output": "attn.c_proj", "norm2": "ln_2",
        "feed_forward.up": "mlp.c_fc", "feed_forward.down": "mlp.c_proj"})
    options = {"depth": LAYERS, "model_dim": 60, "num_heads": 5, "vocab_size": VOCABULARY, "norm_placement": "after",
               "feed_forward": "gelu_tanh"}
    return model, ours, options, {}


GATED_BLOCK = {"norm1": "input_layernorm", "mixer.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
               "mixer.output": "self_attn.o_proj", "norm2": "post_attention_layernorm",
               "feed_forward.gate_up": "mlp.gate_proj mlp.up_proj", "feed_forward.down": "mlp.down_proj"}

# What the Llama family's options share.
LLAMA = {"depth": LAYERS, "model_dim": 64, "num_heads": 8, "num_kv_heads": 2, "vocab_size": VOCABULARY, "ffn_dim": 88,
         "position": "rotary", "norm": "rms_norm", "feed_forward": "swiglu", "bias": False, "norm_epsilon": 1e-6}
THEIR_LLAMA = {"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "hidden_size": 64, "intermediate_size": 88,
               "num_hidden_layers": LAYERS, "num_attention_heads": 8, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
               "attn_implementation": "eager", "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}


def llama_weights(model, block):
    source = model.state_dict()
    ours = {"embedding.token": source["model.embed_tokens.weight"]}
    if not model.config.tie_word_embeddings:
        ours["head.weight"] = source["lm_head.weight"]
    translated(source, "model.layers", ours, block)
    return named(source, ours, {"final_norm": "model.norm"})


def llama(tied=False):
    model = randomise(transformers.LlamaForCausalLM(transformers.LlamaConfig(**THEIR_LLAMA, tie_word_embeddings=tied)))
    return model, llama_weights(model, GATED_BLOCK), LLAMA | {"tie_embeddings": tied}, {}


def llama_tied():
    return llama(True)


def scaled_llama(parameters, options, context=CONTEXT):
    model = randomise(transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **THEIR_LLAMA | {"max_position_embeddings": context}, tie_word_embeddings=True,
        rope_parameters={"rope_theta": 10000.0} | parameters)))
    return model, llama_weights(model, GATED_BLOCK), LLAMA | options, {}


def llama_linear():
    return scaled_llama({"rope_type": "linear", "factor": 4.0}, {"rotary_scaling": "linear", "rotary_factor": 4})


def llama_ntk():
    # Theirs grows with the text: 40 tokens where 20 were trained give 3 x 40 / 20 - (3 - 1) = 4.
    return scaled_llama({"rope_type": "dynamic", "factor": 3.0}, {"rotary_scaling": "ntk", "rotary_factor": 4}, 20)


def llama_yarn():
    return scaled_llama({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 300},
                        {"rotary_scaling": "yarn", "rotary_factor": 4, "rotary_trained_context": 300})


def bloom():
    model = randomise(transformers.BloomForCausalLM(transformers.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=60, n_layer=LAYERS, n_head=5, hidden_dropout=0.0, attention_dropout=0.0,
        attn_implementation="eager")))
    source = model.state_dict()
    ours = {"embedding.token": source["transformer.word_embeddings.weight"]}
    named(source, ours, {"embedding.norm": "transformer.word_embeddings_layernorm", "final_norm": "transformer.ln_f"})
    translated(source, "transformer.h", ours, {
        "norm1": "input_layernorm", "mixer.qkv": "self_attention.query_key_value",
        "mixer.output": "self_attention.dense", "norm2": "post_attention_layernorm",
        "feed_forward.up": "mlp.dense_h_to_4h", "feed_forward.down": "mlp.dense_4h_to_h"})
    for name, value in ours.items():
        if ".qkv." in name:  # theirs stacks query, key and value head by head
            ours[name] = value.unflatten(0, (5, 3, 12)).transpose(0, 1).flatten(0, 2)
    options = {"depth": LAYERS, "model_dim": 60, "num_heads": 5, "vocab_size": VOCABULARY, "position": "alibi",
               "feed_forward": "gelu_tanh", "embedding_norm": True}
    return model, ours, options, {}


class T5Decoder(torch.nn.Module):
    """T5's decoder behind an encoder whose text it does not read: what cross-attention writes is zero."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return self.model(input_ids=torch.zeros_like(tokens[:, :1]), decoder_input_ids=tokens)


def t5():
    model = randomise(transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=VOCABULARY, d_model=60, d_kv=12, d_ff=112, num_layers=LAYERS, num_decoder_layers=LAYERS, num_heads=5,
        relative_attention_num_buckets=8, relative_attention_max_distance=20, feed_forward_proj="relu",
        tie_word_embeddings=False, decoder_start_token_id=0, dropout_rate=0.0)))
    with torch.no_grad():
        for block in model.decoder.block:
            block.layer[1].EncDecAttention.o.weight.zero_()
            block.layer[0].SelfAttention.q.weight.mul_(0.3)
    source = model.state_dict()
    first = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    ours = {"embedding.token": model.decoder.embed_tokens.weight.detach(), "head.weight": source["lm_head.weight"],
            "position_bias.weight": source[first]}
    attention, network = "layer.0.SelfAttention", "layer.2.DenseReluDense"
    translated(source, "decoder.block", ours, {
        "norm1": "layer.0.layer_norm", "mixer.qkv": f"{attention}.q {attention}.k {attention}.v",
        "mixer.output": f"{attention}.o", "norm2": "layer.2.layer_norm", "feed_forward.up": f"{network}.wi",
        "feed_forward.down": f"{network}.wo"})
    named(source, ours, {"final_norm": "decoder.final_layer_norm"})
    for name, value in ours.items():
        if ".qkv." in name:  # theirs does not divide logits by sqrt(12)
            ours[name] = torch.cat([value[:60] * 12 ** 0.5, value[60:]])
    options = {"depth": LAYERS, "model_dim": 60, "num_heads": 5, "vocab_size": VOCABULARY, "ffn_dim": 112,
               "position": "relative", "norm": "rms_norm", "feed_forward": "relu", "bias": False,
               "tie_embeddings": False, "norm_epsilon": 1e-6, "relative_buckets": 8, "relative_distance": 20}
    return T5Decoder(model), ours, options, {}


def qwen3():
    model = randomise(transformers.Qwen3ForCausalLM(transformers.Qwen3Config(
        **THEIR_LLAMA, head_dim=8, tie_word_embeddings=False)))
    block = GATED_BLOCK | {"mixer.query_norm": "self_attn.q_norm", "mixer.key_norm": "self_attn.k_norm"}
    return model, llama_weights(model, block), LLAMA | {"tie_embeddings": False, "qk_norm": "rms_norm"}, {}


def gemma2():
    model = randomise(transformers.Gemma2ForCausalLM(transformers.Gemma2Config(
        **THEIR_LLAMA, head_dim=8, query_pre_attn_scalar=8, sliding_window=CONTEXT, final_logit_softcapping=None,
        attn_logit_softcapping=2.0, hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True)))
    block = GATED_BLOCK | {"norm1_after": "post_attention_layernorm", "norm2": "pre_feedforward_layernorm",
                           "norm2_after": "post_feedforward_layernorm"}
    ours = llama_weights(model, block)
    # Theirs multiplies by 1 + weight.
    ours = {name: value + 1 if "norm" in name else value for name, value in ours.items()}
    options = LLAMA | {"norm_placement": "both", "feed_forward": "geglu_tanh", "embedding_scale": True}
    return model, ours, options, {"logit_cap": 2.0}


def phi():
    model = randomise(transformers.PhiForCausalLM(transformers.PhiConfig(
        vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=60, intermediate_size=112,
        num_hidden_layers=LAYERS, num_attention_heads=5, hidden_act="gelu_new", attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5})))
    with torch.no_grad():
        model.lm_head.bias.zero_()  # ours has none
    source = model.state_dict()
    ours = {"embedding.token": source["model.embed_tokens.weight"], "head.weight": source["lm_head.weight"]}
    translated(source, "model.layers", ours, {
        "norm1": "input_layernorm", "mixer.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
        "mixer.output": "self_attn.dense", "feed_forward.up": "mlp.fc1", "feed_forward.down": "mlp.fc2"})
    named(source, ours, {"final_norm": "model.final_layernorm"})
    options = {"depth": LAYERS, "model_dim": 60, "num_heads": 5, "vocab_size": VOCABULARY, "ffn_dim": 112,
               "position": "rotary", "rotary_share": 0.5, "norm_placement": "parallel", "feed_forward": "gelu_tanh",
               "tie_embeddings": False}
    return model, ours, options, {}


def opt():
    model = randomise(transformers.OPTForCausalLM(transformers.OPTConfig(
        vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=60, ffn_dim=112, num_hidden_layers=LAYERS,
        num_attention_heads=5, word_embed_proj_dim=24, do_layer_norm_before=True, activation_function="relu",
        attn_implementation="eager", dropout=0.0)))
    decoder = model.model.decoder
    with torch.no_grad():
        decoder.project_out.weight.copy_(decoder.project_in.weight.t())  # a tied head's way back is the way in
    source = model.state_dict()
    ours = {"embedding.token": source["model.decoder.embed_tokens.weight"],
            "embedding.up.weight": source["model.decoder.project_in.weight"],
            "embedding.position": source["model.decoder.embed_positions.weight"][2:]}  # they keep two rows for padding
    translated(source, "model.decoder.layers", ours, {
        "norm1": "self_attn_layer_norm", "mixer.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
        "mixer.output": "self_attn.out_proj", "norm2": "final_layer_norm", "feed_forward.up": "fc1",
        "feed_forward.down": "fc2"})
    named(source, ours, {"final_norm": "model.decoder.final_layer_norm"})
    options = {"depth": LAYERS, "model_dim": 60, "num_heads": 5, "vocab_size": VOCABULARY, "ffn_dim": 112,
               "feed_forward": "relu", "embedding_dim": 24}
    return model, ours, options, {}


def nemotron():
    model = randomise(transformers.NemotronForCausalLM(transformers.NemotronConfig(
        vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=64, intermediate_size=88,
        num_hidden_layers=LAYERS, num_attention_heads=8, num_key_value_heads=2, hidden_act="relu2",
        attn_implementation="eager", attention_bias=True, mlp_bias=True, pad_token_id=None, bos_token_id=None,
        eos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5})))
    ours = llama_weights(model, {
        "norm1": "input_layernorm", "mixer.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
        "mixer.output": "self_attn.o_proj", "norm2": "post_attention_layernorm", "feed_forward.up": "mlp.up_proj",
        "feed_forward.down": "mlp.down_proj"})
    # Theirs multiplies by 1 + weight.
    ours = {name: value + 1 if "norm" in name and name.endswith("weight") else value for name, value in ours.items()}
    options = {"depth": LAYERS, "model_dim": 64, "num_heads": 8, "num_kv_heads": 2, "vocab_size": VOCABULARY,
               "ffn_dim": 88, "position": "rotary", "rotary_share": 0.5, "feed_forward": "relu_squared",
               "tie_embeddings": False}
    return model, ours, options, {}


def mixtral_weights(model):
    source = model.state_dict()
    ours = llama_weights(model, {name: theirs for name, theirs in GATED_BLOCK.items() if "feed" not in name})
    for layer in range(LAYERS):
        below = f"blocks.{layer}.feed_forward"
        ours[f"{below}.router.weight"] = source[f"model.layers.{layer}.mlp.gate.weight"]
        for expert in range(5):
            for our, theirs in (("gate_up", "gate_up_proj"), ("down", "down_proj")):
                ours[f"{below}.experts.{expert}.{our}.weight"] = \
                    source[f"model.layers.{layer}.mlp.experts.{theirs}"][expert]
    return ours


def mixtral_balance(model, tokens):
    """The loss of their routers, layer by layer; theirs counts a position once for each of its experts, ours once."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
    logits = model(tokens, output_router_logits=True).router_logits
    return sum(0.01 * load_balancing_loss_func((layer,), 5, 2) / 2 for layer in logits)


def mixtral():
    model = randomise(transformers.MixtralForCausalLM(transformers.MixtralConfig(
        **THEIR_LLAMA, num_local_experts=5, num_experts_per_tok=2, sliding_window=None, tie_word_embeddings=False,
        experts_implementation="eager", rope_parameters={"rope_type": "default", "rope_theta": 10000.0})))
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate.weight.mul_(3)  # so that the experts of a position are clear
    return model, mixtral_weights(model), LLAMA | {"tie_embeddings": False, "experts": 5}, {}


class EncoderLogits(torch.nn.Module):
    """The products of an encoder's states with a matrix [V, M]: a tied head without the layer that BERT has before it."""

    def __init__(self, encoder, matrix):
        super().__init__()
        self.encoder, self.matrix = encoder, matrix

    def forward(self, tokens):
        return self.encoder(tokens).last_hidden_state @ self.matrix.T


def bert():
    model = randomise(transformers.BertModel(transformers.BertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=60, intermediate_size=112,
        num_hidden_layers=LAYERS, num_attention_heads=5, layer_norm_eps=1e-5, attn_implementation="eager"),
        add_pooling_layer=False))
    source = model.state_dict()
    token = source["embeddings.word_embeddings.weight"]
    ours = {"embedding.token": token,
            "embedding.position": source["embeddings.position_embeddings.weight"] +
            source["embeddings.token_type_embeddings.weight"][0]}  # every token is of their first type
    named(source, ours, {"embedding.norm": "embeddings.LayerNorm"})
    translated(source, "encoder.layer", ours, {
        "norm1": "attention.output.LayerNorm",
        "mixer.qkv": "attention.self.query attention.self.key attention.self.value",
        "mixer.output": "attention.output.dense", "norm2": "output.LayerNorm",
        "feed_forward.up": "intermediate.dense", "feed_forward.down": "output.dense"})
    options = {"depth": LAYERS, "model_dim": 60, "num_heads": 5, "vocab_size": VOCABULARY, "head": "masked_token",
               "ffn_dim": 112, "norm_placement": "after", "embedding_norm": True}
    return EncoderLogits(model, token), ours, options, {}


def t5_encoder():
    model = randomise(transformers.T5EncoderModel(transformers.T5Config(
        vocab_size=VOCABULARY, d_model=60, d_kv=12, d_ff=112, num_layers=LAYERS, num_heads=5,
        relative_attention_num_buckets=16, relative_attention_max_distance=20, feed_forward_proj="gated-gelu",
        dropout_rate=0.0)))
    with torch.no_grad():
        for block in model.encoder.block:
            block.layer[0].SelfAttention.q.weight.mul_(0.3)
    source = model.state_dict()
    token = model.encoder.embed_tokens.weight.detach()
    first = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    ours = {"embedding.token": token, "position_bias.weight": source[first]}
    attention, network = "layer.0.SelfAttention", "layer.1.DenseReluDense"
    translated(source, "encoder.block", ours, {
        "norm1": "layer.0.layer_norm", "mixer.qkv": f"{attention}.q {attention}.k {attention}.v",
        "mixer.output": f"{attention}.o", "norm2": "layer.1.layer_norm",
        "feed_forward.gate_up": f"{network}.wi_0 {network}.wi_1", "feed_forward.down": f"{network}.wo"})
    named(source, ours, {"final_norm": "encoder.final_layer_norm"})
    for name, value in ours.items():
        if ".qkv." in name:  # theirs does not divide logits by sqrt(12)
            ours[name] = torch.cat([value[:60] * 12 ** 0.5, value[60:]])
    options = {"depth": LAYERS, "model_dim": 60, "num_heads": 5, "vocab_size": VOCABULARY, "head": "masked_token",
               "ffn_dim": 112, "position": "relative", "norm": "rms_norm", "feed_forward": "geglu_tanh", "bias": False,
               "norm_epsilon": 1e-6, "relative_buckets": 16, "relative_distance": 20}
    return EncoderLogits(model, token), ours, options, {}


class T5Both(torch.nn.Module):
    """T5 on a text whose first 25 tokens its encoder reads; the decoder starts from the last of them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return self.model(input_ids=tokens[:, :25], decoder_input_ids=tokens[:, 24:])


def t5_both():
    model = randomise(transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=VOCABULARY, d_model=60, d_kv=12, d_ff=112, num_layers=LAYERS, num_decoder_layers=LAYERS, num_heads=5,
        relative_attention_num_buckets=16, relative_attention_max_distance=20, feed_forward_proj="relu",
        tie_word_embeddings=False, decoder_start_token_id=0, dropout_rate=0.0)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("Attention.q.weight"):
                parameter.mul_(0.3)
        model.encoder.embed_tokens.weight.copy_(model.decoder.embed_tokens.weight)
    source = model.state_dict()
    ours = {}
    for stack, network in (("encoder", 1), ("decoder", 2)):
        part = {}
        names = {"norm1": "layer.0.layer_norm",
                 "mixer.qkv": " ".join(f"layer.0.SelfAttention.{name}" for name in "qkv"),
                 "mixer.output": "layer.0.SelfAttention.o", "norm2": f"layer.{network}.layer_norm",
                 "feed_forward.up": f"layer.{network}.DenseReluDense.wi",
                 "feed_forward.down": f"layer.{network}.DenseReluDense.wo"}
        if stack == "decoder":
            names |= {"norm3": "layer.1.layer_norm",
                      "cross.qkv": " ".join(f"layer.1.EncDecAttention.{name}" for name in "qkv"),
                      "cross.output": "layer.1.EncDecAttention.o"}
        translated(source, f"{stack}.block", part, names)
        named(source, part, {"final_norm": f"{stack}.final_layer_norm"})
        part["position_bias.weight"] = \
            source[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        for name, value in part.items():
            if ".qkv." in name:  # theirs does not divide logits by sqrt(12)
                value = torch.cat([value[:60] * 12 ** 0.5, value[60:]])
            ours[name if stack == "decoder" else f"encoder.{name}"] = value
    ours |= {"embedding.token": model.decoder.embed_tokens.weight.detach(), "head.weight": source["lm_head.weight"]}
    options = {"depth": LAYERS, "model_dim": 60, "num_heads": 5, "vocab_size": VOCABULARY, "ffn_dim": 112,
               "head": "encoder_decoder", "input_length": 25, "position": "relative", "norm": "rms_norm",
               "feed_forward": "relu", "bias": False, "tie_embeddings": False, "norm_epsilon": 1e-6,
               "relative_buckets": 16, "relative_distance": 20}
    return T5Both(model), ours, options, {}


def gpt2_classifier():
    model = randomise(transformers.GPT2ForSequenceClassification(transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=60, n_layer=LAYERS, n_head=5, activation_function="gelu_new",
        num_labels=VOCABULARY, pad_token_id=VOCABULARY, attn_implementation="eager")))  # no token is the padding
    source = from_conv1d(model.state_dict())
    ours = {"embedding.token": source["transformer.wte.weight"], "embedding.position": source["transformer.wpe.weight"],
            "head.weight": source["score.weight"]}
    translated(source, "transformer.h", ours, {
        "norm1": "ln_1", "mixer.qkv": "attn.c_attn", "mixer.output": "attn.c_proj", "norm2": "ln_2",
        "feed_forward.up": "mlp.c_fc", "feed_forward.down": "mlp.c_proj"})
    named(source, ours, {"final_norm": "transformer.ln_f"})
    options = {"depth": LAYERS, "model_dim": 60, "num_heads": 5, "vocab_size": VOCABULARY, "feed_forward": "gelu_tanh",
               "head": "classify", "pooling": "last", "causal": True, "tie_embeddings": False}
    return model, ours, options, {}


MODELS = {function.__name__: function for function in (
    gpt2, llama, llama_tied, llama_linear, llama_ntk, llama_yarn, gpt1, gemma2, phi, qwen3, opt, nemotron, bloom, t5,
    bert, t5_encoder, gpt2_classifier, mixtral, t5_both)}

# Models of which gradients are compared too: our weights of theirs, and what they add to a training loss.
GRADIENTS = {"mixtral": (mixtral_weights, mixtral_balance)}

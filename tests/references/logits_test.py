"""Our logits against those of PyPI's `transformers`, with the same random weights.

usage: logits_test.py REFERENCE_LOGITS gpt2|llama|llama_tied

Every parameter is drawn at random, biases and norms too, so that none can be mistaken for another.
Exit status: 0 equal, 1 not, 77 when torch, transformers or safetensors cannot be imported.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

# Absolute, in float32. With these weights the logits' standard deviation is 0.8, and transformers' own float32 differs
# from its float64 by 2e-6.
TOLERANCE = 1e-5
VOCABULARY, CONTEXT, BATCH, LENGTH = 97, 48, 3, 40


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


def gpt2():
    model = randomise(GPT2LMHeadModel(GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=60, n_layer=3, n_head=5, activation_function="gelu_new",
        attn_implementation="eager")))
    source = model.state_dict()
    ours = {
        "embedding.token": source["transformer.wte.weight"],
        "embedding.position": source["transformer.wpe.weight"],
    }
    names = {"ln_1": "norm1", "attn.c_attn": "mixer.qkv", "attn.c_proj": "mixer.output", "ln_2": "norm2",
             "mlp.c_fc": "feed_forward.up", "mlp.c_proj": "feed_forward.down"}
    for layer in range(3):
        for theirs, our in names.items():
            weight = source[f"transformer.h.{layer}.{theirs}.weight"]
            # Their linear layers keep [in, out].
            ours[f"blocks.{layer}.{our}.weight"] = weight.t() if weight.dim() == 2 else weight
            ours[f"blocks.{layer}.{our}.bias"] = source[f"transformer.h.{layer}.{theirs}.bias"]
    for kind in ("weight", "bias"):
        ours[f"final_norm.{kind}"] = source[f"transformer.ln_f.{kind}"]
    options = {"depth": 3, "model_dim": 60, "num_heads": 5, "vocab_size": VOCABULARY, "feed_forward": "gelu_tanh"}
    return model, ours, options


def llama(tied):
    model = randomise(LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=64, intermediate_size=88,
        num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, rms_norm_eps=1e-6,
        tie_word_embeddings=tied, attn_implementation="eager")))
    source = model.state_dict()
    ours = {"embedding.token": source["model.embed_tokens.weight"], "final_norm.weight": source["model.norm.weight"]}
    if not tied:
        ours["head.weight"] = source["lm_head.weight"]
    for layer in range(3):
        def of(name):
            return source[f"model.layers.{layer}.{name}.weight"]
        ours |= {f"blocks.{layer}.{name}.weight": value for name, value in {
            "norm1": of("input_layernorm"),
            "mixer.qkv": torch.cat([of("self_attn.q_proj"), of("self_attn.k_proj"), of("self_attn.v_proj")]),
            "mixer.output": of("self_attn.o_proj"),
            "norm2": of("post_attention_layernorm"),
            "feed_forward.gate_up": torch.cat([of("mlp.gate_proj"), of("mlp.up_proj")]),
            "feed_forward.down": of("mlp.down_proj"),
        }.items()}
    options = {"depth": 3, "model_dim": 64, "num_heads": 8, "num_kv_heads": 2, "vocab_size": VOCABULARY,
               "ffn_dim": 88, "position": "rotary", "norm": "rms_norm", "feed_forward": "swiglu", "bias": False,
               "tie_embeddings": tied, "norm_epsilon": 1e-6, "rotary_base": 10000}
    return model, ours, options


def our_logits(program, weights, options, tokens):
    with tempfile.TemporaryDirectory() as folder:
        config, tensors, output = (Path(folder) / name for name in ("config.json", "weights.safetensors", "out.safetensors"))
        config.write_text(json.dumps({"model": options, "attention": {"variant": "softmax"}, "context": CONTEXT,
                                      "tokens": tokens.tolist()}))
        save_file({name: value.clone().contiguous() for name, value in weights.items()}, tensors)
        subprocess.run([program, config, tensors, output], check=True)
        return load_file(output)


def main(program, which):
    model, weights, options = {"gpt2": gpt2, "llama": lambda: llama(False), "llama_tied": lambda: llama(True)}[which]()
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH))
    with torch.no_grad():
        theirs = model(tokens).logits
    ours = our_logits(program, weights, options, tokens)
    failed = False
    for name in ("logits", "decoded"):
        difference = (ours[name] - theirs).abs().max().item()
        print(f"{which} {name}: largest difference {difference:.2e} (allowed {TOLERANCE:.0e}), "
              f"standard deviation of the logits {theirs.std().item():.2f}")
        failed |= not difference <= TOLERANCE
    # The comparison can fail: swapping two rows of one matrix must show.
    name = "blocks.1.mixer.qkv.weight"
    weights[name] = weights[name].clone()
    weights[name][[0, 1]] = weights[name][[1, 0]]
    if (our_logits(program, weights, options, tokens)["logits"] - theirs).abs().max().item() <= 100 * TOLERANCE:
        print("a fault planted in one matrix was not seen")
        failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Do fifty training steps of ours follow PyTorch's own AdamW on PyPI `transformers`' own GPT-2?

usage: training_parity.py REFERENCE_TRAINING

A GPT-2 with random weights trains with torch.optim.AdamW (decay on matrices only), linear warm-up and cosine, gradients
clipped to norm 1, float32, one thread, on random batches whose next token depends on the last. Our program gets the same
weights and batches. Losses must agree to 1e-4 at every step. Exit status 77: packages missing.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import torch
    from safetensors.torch import save_file
    from transformers import GPT2Config, GPT2LMHeadModel
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

DEPTH, WIDTH, HEADS, CONTEXT, VOCAB, ROWS, STEPS, WARMUP = 2, 48, 3, 33, 61, 5, 50, 7
RATE, FINAL, DECAY, BETAS = 3e-3, 0.1, 0.1, (0.9, 0.95)
TOLERANCE = 1e-4


def our_names(model):
    """Weights by our parameter names; GPT-2 keeps its matrices as [in, out], we as [out, in]."""
    theirs = model.transformer
    named = {"embedding.token": theirs.wte.weight, "embedding.position": theirs.wpe.weight}
    named |= {f"final_norm.{kind}": getattr(theirs.ln_f, kind) for kind in ("weight", "bias")}
    for layer, block in enumerate(theirs.h):
        for ours, module in {"norm1": block.ln_1, "norm2": block.ln_2, "mixer.qkv": block.attn.c_attn,
                             "mixer.output": block.attn.c_proj, "feed_forward.up": block.mlp.c_fc,
                             "feed_forward.down": block.mlp.c_proj}.items():  # fmt: skip
            weight = module.weight if ours.startswith("norm") else module.weight.t()
            named |= {f"blocks.{layer}.{ours}.weight": weight, f"blocks.{layer}.{ours}.bias": module.bias}
    return {name: tensor.detach().clone().contiguous() for name, tensor in named.items()}


def learnable_batches():
    successor = torch.randperm(VOCAB)
    tokens = torch.randint(VOCAB, (STEPS, ROWS, CONTEXT + 1))
    for position in range(CONTEXT):
        keep = torch.rand(STEPS, ROWS) < 0.7
        tokens[..., position + 1] = torch.where(keep, successor[tokens[..., position]], tokens[..., position + 1])
    return tokens


def rate_at(step):
    if step <= WARMUP:
        return RATE * step / WARMUP
    progress = (step - WARMUP) / (STEPS - WARMUP)
    return RATE * (FINAL + (1 - FINAL) * (1 + math.cos(math.pi * progress)) / 2)


def reference_rows(model, batches):
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW([{"params": [p for p in parameters if p.dim() >= 2], "weight_decay": DECAY},
                                   {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}],
                                  betas=BETAS, eps=1e-8)  # fmt: skip
    rows = []
    for step, tokens in enumerate(batches, start=1):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        logits = model(tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rows.append((loss.item(), norm.item(), rate_at(step)))
    return rows


def our_rows(program, folder, weights, batches):
    config = {
        "model": {"depth": DEPTH, "model_dim": WIDTH, "num_heads": HEADS, "vocab_size": VOCAB, "position": "learned",
                  "norm": "layer_norm", "feed_forward": "gelu_tanh", "bias": True, "tie_embeddings": True},
        "attention": {"variant": "softmax"},
        "data": {"source": "zipf_memory", "context": CONTEXT, "num_keys": 8, "num_labels": 4},
        "train": {"steps": STEPS, "batch_size": ROWS, "learning_rate": RATE, "final_learning_rate": FINAL,
                  "warmup_steps": WARMUP, "beta1": BETAS[0], "beta2": BETAS[1], "epsilon": 1e-8, "weight_decay": DECAY,
                  "clip_norm": 1.0, "dtype": "float32"},
    }  # fmt: skip
    files = [Path(folder, name) for name in ("config.json", "weights.safetensors", "batches.safetensors")]
    files[0].write_text(json.dumps(config))
    save_file(weights, files[1])
    save_file({"tokens": batches}, files[2])
    output = subprocess.run([program, "train", *files], check=True, capture_output=True, text=True,
                            env={"OMP_NUM_THREADS": "1"}).stdout  # fmt: skip
    return [tuple(map(float, line.split())) for line in output.splitlines()]


def main(program):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = GPT2LMHeadModel(GPT2Config(n_layer=DEPTH, n_embd=WIDTH, n_head=HEADS, n_positions=CONTEXT, vocab_size=VOCAB,
                                       resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
                                       bos_token_id=None, eos_token_id=None))  # fmt: skip
    model.train()
    batches = learnable_batches()
    weights = our_names(model)
    theirs = reference_rows(model, batches)
    with tempfile.TemporaryDirectory() as folder:
        ours = our_rows(program, folder, weights, batches)
    assert len(ours) == STEPS, f"{len(ours)} rows"
    worst = max(abs(a[0] - b[0]) for a, b in zip(ours, theirs))
    clipped = sum(norm > 1 for _, norm, _ in theirs)
    print(f"loss {theirs[0][0]:.4f} -> {theirs[-1][0]:.4f}, {clipped} of {STEPS} steps clipped; "
          f"largest difference: loss {worst:.2e}, gradient norm {max(abs(a[1] - b[1]) for a, b in zip(ours, theirs)):.2e}")
    # The comparison means something only if the run learns and clipping acts.
    assert theirs[-1][0] < theirs[0][0] - 0.5 and clipped > 0
    if worst > TOLERANCE:
        sys.exit(f"losses differ by {worst:.2e}, tolerance {TOLERANCE}")


if __name__ == "__main__":
    main(sys.argv[1])

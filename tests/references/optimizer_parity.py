"""Are ten updates of ours those of torch.optim, for every optimizer and every kind of clipping?

usage: optimizer_parity.py REFERENCE_TRAINING

Both sides start from the same parameters, named as a model's, and get the same ten gradients at the same rates. Float64,
but float32 where PyTorch computes in bfloat16 (Muon). Prints each case's largest distance from PyTorch's weights, as a
share of how far that weight travelled at most. Exit status 77: packages missing. Lion, which PyTorch lacks, is compared
with its paper in tests/train/optimizer_test.cpp.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import torch
    from safetensors.torch import load_file, save_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)
if not hasattr(torch.optim, "Muon"):
    print("skipped: this torch has no Muon; 2.9 does")
    sys.exit(77)

STEPS, RATE, DECAY = 10, 0.02, 0.1
SHAPES = {"embedding.token": (11, 6), "blocks.0.norm1.weight": (6,), "blocks.0.mixer.qkv.weight": (18, 6),
          "blocks.1.norm1.weight": (6,), "blocks.1.feed_forward.down.weight": (6, 24), "head.weight": (11, 6),
          "blocks.1.mixer.attention.map": (2, 3, 3)}  # fmt: skip


def is_matrix(name):
    return len(SHAPES[name]) >= 2


def is_hidden(name):
    return name.startswith("blocks.") and len(SHAPES[name]) == 2


def grouped(weights, decay):
    """Decay on matrices only."""
    return [{"params": [w for name, w in weights.items() if is_matrix(name)], "weight_decay": decay},
            {"params": [w for name, w in weights.items() if not is_matrix(name)], "weight_decay": 0.0}]  # fmt: skip


def rated(kind, **options):
    """A rate for embeddings and the head, one for gains and biases, and one for the rest."""
    def make(weights):
        groups = grouped(weights, DECAY)
        embeddings = [w for name, w in weights.items() if name.startswith(("embedding.", "head."))]
        rest = [w for name, w in weights.items() if is_matrix(name) and not name.startswith(("embedding.", "head."))]
        return [kind([{"params": embeddings, "weight_decay": DECAY, "lr": 0.25 * RATE},
                      {"params": rest, "weight_decay": DECAY}, {**groups[1], "lr": 3 * RATE}], lr=RATE, **options)]  # fmt: skip
    return make


def of_kind(kind, **options):
    return lambda weights: [kind(grouped(weights, DECAY), lr=RATE, **options)]


def muon(**options):
    def make(weights):
        hidden = [w for name, w in weights.items() if is_hidden(name)]
        others = {name: w for name, w in weights.items() if not is_hidden(name)}
        return [torch.optim.Muon(hidden, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw", **options),
                torch.optim.AdamW(grouped(others, DECAY), lr=RATE, betas=(0.9, 0.95))]  # fmt: skip
    return make


def clip_all(weights):
    torch.nn.utils.clip_grad_norm_(weights.values(), 2.0)


def clip_layers(weights):
    for layer in ("embedding.", "blocks.0.", "blocks.1.", "head."):
        torch.nn.utils.clip_grad_norm_([w for name, w in weights.items() if name.startswith(layer)], 2.0)


def clip_values(weights):
    torch.nn.utils.clip_grad_value_(weights.values(), 0.5)


def unclipped(weights):
    pass


EXACT = 1e-12  # float64, ten updates of some tens of roundings of 1e-16
CLIPPED = 1e-6  # PyTorch adds 1e-6 to the norm before it divides
SINGLE = 1e-5  # float32: roundings of 1e-7
# Muon's ten updates in bfloat16, whose roundings are 0.4 % of a number, are the same operations in the same order.
CASES = {
    "adamw": ({}, of_kind(torch.optim.AdamW, betas=(0.9, 0.95)), unclipped, EXACT),
    "adamw, rates": ({"embedding_rate": 0.25, "vector_rate": 3.0}, rated(torch.optim.AdamW, betas=(0.9, 0.95)),
                     unclipped, EXACT),
    "sgd, rates": ({"embedding_rate": 0.25, "vector_rate": 3.0, "momentum": 0.8},
                   rated(torch.optim.SGD, momentum=0.8), unclipped, EXACT),
    "adafactor, rates": ({"embedding_rate": 0.25, "vector_rate": 3.0},
                         rated(torch.optim.Adafactor, eps=(1e-15, 1e-3)), unclipped, EXACT),
    "adam": ({}, of_kind(torch.optim.Adam, betas=(0.9, 0.95)), unclipped, EXACT),
    "sgd": ({"momentum": 0.0}, of_kind(torch.optim.SGD), unclipped, EXACT),
    "sgd, momentum": ({"momentum": 0.8}, of_kind(torch.optim.SGD, momentum=0.8), unclipped, EXACT),
    "sgd, nesterov": ({"momentum": 0.8, "nesterov": True},
                      of_kind(torch.optim.SGD, momentum=0.8, nesterov=True), unclipped, EXACT),
    "adafactor": ({}, of_kind(torch.optim.Adafactor, eps=(1e-15, 1e-3)), unclipped, EXACT),
    "adafactor, others": ({"decay_exponent": 0.5, "update_clip": 1.05, "smallest_scale": 2.0, "epsilon": 0.3},
                          of_kind(torch.optim.Adafactor, eps=(0.3, 2.0), d=1.05, beta2_decay=-0.5), unclipped, EXACT),
    "muon": ({"dtype": "float32"}, muon(), unclipped, SINGLE),
    "muon, others": ({"dtype": "float32", "momentum": 0.7, "nesterov": False, "newton_schulz_steps": 3},
                     muon(momentum=0.7, nesterov=False, ns_steps=3), unclipped, SINGLE),
    "sgd, clip global_norm": ({"clip": "global_norm", "clip_norm": 2.0}, of_kind(torch.optim.SGD, momentum=0.9),
                              clip_all, CLIPPED),
    "sgd, clip per_layer_norm": ({"clip": "per_layer_norm", "clip_norm": 2.0},
                                 of_kind(torch.optim.SGD, momentum=0.9), clip_layers, CLIPPED),
    "sgd, clip value": ({"clip": "value", "clip_value": 0.5}, of_kind(torch.optim.SGD, momentum=0.9), clip_values,
                        EXACT),
}  # fmt: skip


def theirs(make, clip, start, gradients):
    weights = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    optimizers = make(weights)
    for step in range(STEPS):
        for name, weight in weights.items():
            weight.grad = gradients[name][step].clone()
        clip(weights)
        for optimizer in optimizers:
            optimizer.step()
    return {name: weight.detach() for name, weight in weights.items()}


def ours(program, options, start, gradients):
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("options.json", "start", "gradients", "result")]
        files[0].write_text(json.dumps(options))
        save_file(start, files[1])
        save_file(gradients, files[2])
        subprocess.run([program, "update", *files], check=True, env={"OMP_NUM_THREADS": "1"})
        return load_file(files[3])


def main(program):
    torch.set_num_threads(1)
    failed = False
    for case, (changes, make, clip, tolerance) in CASES.items():
        torch.manual_seed(0)
        dtype = torch.float32 if changes.get("dtype") == "float32" else torch.float64
        start = {name: torch.randn(shape, dtype=dtype) for name, shape in SHAPES.items()}
        gradients = {name: torch.randn(STEPS, *shape, dtype=dtype) for name, shape in SHAPES.items()}
        options = {"steps": STEPS, "schedule": "constant", "warmup_steps": 0, "learning_rate": RATE,
                   "optimizer": case.split(",")[0], "weight_decay": DECAY} | changes  # fmt: skip
        if clip is unclipped:
            options["clip_norm"] = 0
        reference, result = theirs(make, clip, start, gradients), ours(program, options, start, gradients)
        worst = 0.0
        for name in SHAPES:
            travelled = (reference[name] - start[name]).abs().max().item()
            assert travelled > 1e-3, f"{case}: {name} did not move"
            worst = max(worst, (reference[name] - result[name]).abs().max().item() / travelled)
        failed |= not worst <= tolerance
        print(f"{case:28} distance {worst:.1e}, tolerance {tolerance:.0e}")
    if failed:
        sys.exit("some updates are not PyTorch's")


if __name__ == "__main__":
    main(sys.argv[1])

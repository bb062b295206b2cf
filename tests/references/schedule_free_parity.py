"""Are ten updates of ours those of the authors' package, schedulefree, for AdamW and SGD?

usage: schedule_free_parity.py REFERENCE_TRAINING

As optimizer_parity.py does for torch.optim, with a warm-up of four updates; both the weights that train and the averages
that are evaluated are compared. Exit status 77: packages missing.
"""

import sys

from optimizer_parity import DECAY, EXACT, RATE, SHAPES, STEPS, ours, rated

try:
    import schedulefree
    import torch
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

WARMUP = 4
# What is compared is x = y + (1 - 1 / b)(z - y) too, which divides roundings by b.
CASES = {
    "adamw": ({"beta1": 0.9, "beta2": 0.95}, schedulefree.AdamWScheduleFree, {"betas": (0.9, 0.95)}),
    "adamw, others": ({"beta1": 0.6, "beta2": 0.99, "epsilon": 1e-3}, schedulefree.AdamWScheduleFree,
                      {"betas": (0.6, 0.99), "eps": 1e-3}),
    "sgd": ({"momentum": 0.9}, schedulefree.SGDScheduleFree, {"momentum": 0.9}),
    "sgd, others": ({"momentum": 0.7}, schedulefree.SGDScheduleFree, {"momentum": 0.7}),
}  # fmt: skip


def theirs(kind, options, start, gradients):
    weights = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    (optimizer,) = rated(kind, warmup_steps=WARMUP, **options)(weights)
    optimizer.train()
    for step in range(STEPS):
        for name, weight in weights.items():
            weight.grad = gradients[name][step].clone()
        optimizer.step()
    result = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer.eval()
    return result | {f"average/{name}": weight.detach() for name, weight in weights.items()}


def main(program):
    torch.set_num_threads(1)
    failed = False
    for case, (changes, kind, options) in CASES.items():
        torch.manual_seed(0)
        start = {name: torch.randn(shape, dtype=torch.float64) for name, shape in SHAPES.items()}
        gradients = {name: torch.randn(STEPS, *shape, dtype=torch.float64) for name, shape in SHAPES.items()}
        own = {"steps": STEPS, "schedule": "schedule_free", "warmup_steps": WARMUP, "learning_rate": RATE, "clip_norm": 0,
               "embedding_rate": 0.25, "vector_rate": 3.0,
               "optimizer": case.split(",")[0], "weight_decay": DECAY} | changes  # fmt: skip
        reference, result = theirs(kind, options, start, gradients), ours(program, own, start, gradients)
        assert reference.keys() == result.keys()
        worst = 0.0
        for name in SHAPES:
            travelled = (reference[name] - start[name]).abs().max().item()
            apart = (reference[f"average/{name}"] - reference[name]).abs().max().item()
            assert travelled > 1e-3 and apart > 1e-4, f"{case}: {name} did not move, or its average is itself"
            for key in (name, f"average/{name}"):
                worst = max(worst, (reference[key] - result[key]).abs().max().item() / travelled)
        failed |= not worst <= EXACT
        print(f"{case:16} distance {worst:.1e}, tolerance {EXACT:.0e}")
    if failed:
        sys.exit("some updates are not schedulefree's")


if __name__ == "__main__":
    main(sys.argv[1])

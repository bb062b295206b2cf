"""Is our loss scale that of torch.amp.GradScaler, step by step?

usage: grad_scaler_parity.py REFERENCE_TRAINING

Both are told of the same steps, some with gradients that overflow: the scale of each step, and whether it updated the
weights, must be the same. Exit status 77: packages missing.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import torch
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

STEPS = 400
# (first scale, steps without overflow that double it, share of steps that overflow): growth wins, backing off, balance
CASES = [(8.0, 6, 0.05), (2.0**60, 50, 0.1), (65536.0, 7, 0.1), (1024.0, 1, 0.4), (4.0, 100, 0.0)]


def theirs(start, growth_every, overflows):
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=start, growth_interval=growth_every)
    lines = []
    for overflow in overflows:
        scale, before = scaler.get_scale(), weight.item()
        scaler.scale((weight * 1.0).sum()).backward()
        if overflow:
            weight.grad.fill_(float("inf"))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        lines.append((scale, weight.item() != before))
    return lines


def ours(program, start, growth_every, overflows):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "options.json")
        file.write_text(json.dumps({"dtype": "float16", "loss_scale": start, "loss_scale_growth_every": growth_every}))
        flags = "".join("1" if overflow else "0" for overflow in overflows)
        output = subprocess.run([program, "scales", file, flags], check=True, capture_output=True, text=True).stdout
    return [(float(scale), updated == "1") for scale, updated in (line.split() for line in output.splitlines())]


def main(program):
    for start, growth_every, share in CASES:
        rng = random.Random(7)
        overflows = [rng.random() < share for _ in range(STEPS)]
        reference, result = theirs(start, growth_every, overflows), ours(program, start, growth_every, overflows)
        scales = {scale for scale, _ in reference}
        # Ours ends a run whose gradients overflow without any scale, and grows no further than 2^100.
        assert min(scales) > 1 and max(scales) < 2.0**100 and len(scales) > 3, f"{min(scales)} to {max(scales)}"
        assert sum(updated for _, updated in reference) == STEPS - sum(overflows)
        if result != reference:
            step = next(i for i, pair in enumerate(zip(result, reference)) if pair[0] != pair[1])
            sys.exit(f"from {start}, doubling every {growth_every}: step {step + 1} has {result[step]}, theirs {reference[step]}")
        print(f"from {start:.3g}, doubling every {growth_every}: {STEPS} steps alike, scales {min(scales):.3g} to {max(scales):.3g}")


if __name__ == "__main__":
    main(sys.argv[1])

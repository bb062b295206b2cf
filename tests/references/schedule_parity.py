"""Is every schedule of ours the one that torch.optim.lr_scheduler gives?

usage: schedule_parity.py REFERENCE_TRAINING

PyTorch's schedulers, warm-up in front, walk 40 updates; rates must agree to 1e-12 of the highest. Exit status 77:
packages missing.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import torch
    from torch.optim import lr_scheduler
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

STEPS, WARMUP, RATE, FINAL = 40, 8, 0.3, 0.2
TOLERANCE = 1e-12  # some of PyTorch's multiply the last rate by a ratio at each step: 40 roundings of 1e-16


def warmed_up(*after, lengths=()):
    """The warm-up, then others one after another. Our update s has PyTorch's rate number s - 1; the warm-up's last has
    the full rate."""
    def make(optimizer):
        warmup = lr_scheduler.LinearLR(optimizer, start_factor=1 / WARMUP, end_factor=1.0, total_iters=WARMUP - 1)
        ends = [WARMUP - 1 + sum(lengths[:count]) for count in range(len(lengths) + 1)]
        return lr_scheduler.SequentialLR(optimizer, [warmup, *(one(optimizer) for one in after)], milestones=ends)
    return make


def constant(optimizer):
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)


def line(steps):
    return lambda optimizer: lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=FINAL, total_iters=steps)


AFTER = STEPS - WARMUP
CASES = {
    "constant": ({}, warmed_up(constant)),
    "schedule_free": ({}, warmed_up(constant)),
    "linear": ({"final_learning_rate": FINAL}, warmed_up(line(AFTER))),
    "cosine": ({"final_learning_rate": FINAL},
               warmed_up(lambda o: lr_scheduler.CosineAnnealingLR(o, AFTER, eta_min=RATE * FINAL))),
    "inverse_sqrt": ({}, warmed_up(lambda o: lr_scheduler.LambdaLR(o, lambda e: (WARMUP / (WARMUP + e)) ** 0.5))),
    "wsd": ({"final_learning_rate": FINAL, "decay_fraction": 0.25}, warmed_up(constant, line(10), lengths=[AFTER - 10])),
    "step": ({"warmup_steps": 0, "decay_every": 9, "decay_factor": 0.5},
             lambda o: lr_scheduler.StepLR(o, step_size=9, gamma=0.5)),
    "one_cycle": ({"warmup_steps": 10, "initial_learning_rate": 0.04, "final_learning_rate": 4e-6},
                  lambda o: lr_scheduler.OneCycleLR(o, RATE, total_steps=STEPS, pct_start=0.25, cycle_momentum=False)),
}  # fmt: skip


def theirs(make):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)
    scheduler = make(optimizer)
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def ours(program, options):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "options.json")
        file.write_text(json.dumps(options))
        output = subprocess.run([program, "rates", file], check=True, capture_output=True, text=True).stdout
    return [float(rate) for rate in output.split()]


def main(program):
    failed = False
    for schedule, (changes, make) in CASES.items():
        options = {"steps": STEPS, "schedule": schedule, "warmup_steps": WARMUP, "learning_rate": RATE} | changes
        expected, rates = theirs(make), ours(program, options)
        assert len(rates) == STEPS and max(expected) > 0.99 * RATE
        worst = max(abs(a - b) for a, b in zip(expected, rates)) / RATE
        failed |= not worst <= TOLERANCE
        print(f"{schedule:14} distance {worst:.1e}, last rate {rates[-1]:.3g}")
    if failed:
        sys.exit(f"rates differ by more than {TOLERANCE}")


if __name__ == "__main__":
    main(sys.argv[1])

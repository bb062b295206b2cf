"""Do the PyTorch forms that `attnscale bench attention --against python` times compute what they are named for?

usage: attention_peer_test.py attention_peer.py

Each form is compared with its definition by plain matrices, in float64, at a length that fills no chunk; then the script
is asked as the program asks it. Forms whose package is missing are left out with a word. Exit status 77: no torch.
"""

import importlib.util
import json
import pathlib
import subprocess
import sys

try:
    import torch
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

WORK = {"batch": 2, "heads": 3, "width": 8, "dtype": "float64", "window": 16, "features": 5, "threads": 1, "clock": "processor"}
LENGTH = 300


def distance():
    places = torch.arange(LENGTH)
    return places[:, None] - places[None, :]


def softmax(q, k, v, attend):
    logits = (q @ k.mT * WORK["width"] ** -0.5).masked_fill(distance() < 0, -torch.inf)
    return logits.softmax(-1) @ v


def sliding_window(q, k, v, attend):
    """Theirs keeps window + 1 keys."""
    hidden = (distance() < 0) | (distance() > WORK["window"])
    return (q @ k.mT * WORK["width"] ** -0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ v


def weighted(weights, v, added):
    weights = weights.tril()
    return weights @ v / (weights.sum(-1, keepdim=True) + added)


def linear(q, k, v, attend):
    q, k = (torch.where(x > 0, x + 1, x.exp()) for x in (q, k))
    return weighted(q @ k.mT, v, 1e-6)


def performer(q, k, v, attend):
    """Theirs adds 1e-4 to each feature, made small by the largest exponent of a query or of all keys, and 1e-6 to each
    feature's sum over keys."""
    def features(x, dimensions):
        x = x * WORK["width"] ** -0.25
        exponents = x @ attend.projection_matrix.to(x.dtype).mT
        exponents = exponents - x.square().sum(-1, keepdim=True) / 2 - exponents.amax(dimensions, keepdim=True)
        return (exponents.exp() + 1e-4) * WORK["features"] ** -0.5
    q, k = features(q, -1), features(k, (-1, -2))
    return weighted(q @ k.mT, v, 1e-6 * q.sum(-1, keepdim=True))


class Ticking:
    def __init__(self, clock, takes, first):
        self.clock, self.takes, self.next = clock, takes, first

    def run(self):
        self.clock[0] += self.next
        self.next = self.takes


TOLERANCE = 1e-10  # sums of 300 terms in float64, and quotients


def main():
    spec = importlib.util.spec_from_file_location("attention_peer", sys.argv[1])
    peer = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))  # for the module that it imports
    spec.loader.exec_module(peer)
    torch.manual_seed(0)
    q, k, v = (torch.randn(WORK["batch"], WORK["heads"], LENGTH, WORK["width"], dtype=torch.float64) for _ in range(3))
    failed = False
    for name, definition in (("softmax", softmax), ("sliding_window", sliding_window), ("linear", linear),
                             ("performer", performer)):  # fmt: skip
        for way, make in peer.FORMS[name].items():
            try:
                attend = peer.attend_by(make, WORK)
            except ImportError as missing:
                print(f"{name} is left out: {missing}")
                continue
            difference = (attend(q, k, v) - definition(q, k, v, attend)).abs().max().item()
            print(f"{name} {way}: {difference:.2g}, at most {TOLERANCE}")
            failed = failed or not difference < TOLERANCE

    # Of three ways, of which each call ticks a clock further by its own time, the middle one is the fastest; its first
    # call, which is not counted, takes longest.
    clock = [0.0]
    ways = [Ticking(clock, 9, first=9), Ticking(clock, 2, first=100), Ticking(clock, 3, first=1)]
    kept = peer.fastest(ways, lambda: clock[0])
    if kept is not ways[1] or peer.fastest(ways[2:], lambda: clock[0]) is not ways[2]:
        print("the way that is kept is not the fastest")
        failed = True

    questions = [{**WORK, "forms": ["softmax", "linear"]}, {"form": "softmax", "length": 64, "calls": 1},
                 {"form": "linear", "length": 65, "calls": 3}]
    asked = "".join(json.dumps(question) + "\n" for question in questions)
    said = subprocess.run([sys.executable, sys.argv[1]], input=asked, text=True, capture_output=True, check=True).stdout
    about, *times = [json.loads(line) for line in said.splitlines()]
    if about["forms"] != ["softmax", "linear"] or about["left_out"] or len(times) != 2 or any(t["ms"] <= 0 for t in times) or times[0]["way"] or times[1]["way"] not in ("chunks of 64", "chunks of 128"):
        print(f"the script answered {said}")
        failed = True
    return 1 if failed else 0


sys.exit(main())

"""The other side of `attnscale bench attention --against python`: attention as people run it in PyTorch.

Reads one JSON document a line and answers each with one. The first describes the work and is answered with the forms
that there are and why others are not; each {"form": name, "length": T, "calls": N} then makes N forward and backward
passes and answers {"ms": time, "way": which}: of a form's several ways the fastest is found at each length, untimed.
Nothing happens between two questions, so that the two programs take turns on one machine.
"""

import contextlib
import json
import statistics
import sys

from peer_common import answer, first_question, reason

import torch
from torch.nn import functional as F


def softmax(work):
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)


def sliding_window(work):
    from local_attention import LocalAttention
    width = work["window"]
    return LocalAttention(window_size=width, causal=True, look_backward=1, exact_windowsize=True, autopad=True,
                          use_rotary_pos_emb=False)


def linear(chunk):
    """elu + 1 features in chunks, sums carried from chunk to chunk; what plain PyTorch can do."""
    def attend(q, k, v):
        length = q.shape[2]
        padding = -length % chunk
        q, k = F.elu(q) + 1, F.elu(k) + 1
        v = F.pad(v, (0, 1), value=1.0)  # the last column sums the weights
        q, k, v = (F.pad(x, (0, 0, 0, padding)).unflatten(2, (-1, chunk)) for x in (q, k, v))
        inside = (q @ k.mT).tril() @ v
        made = k.mT @ v
        sums = inside + q @ (made.cumsum(2) - made)
        sums = sums.flatten(2, 3)[:, :, :length]
        return sums[..., :-1] / (sums[..., -1:] + 1e-6)
    return attend


def performer(work):
    from performer_pytorch import FastAttention
    features = work["features"]
    return FastAttention(dim_heads=work["width"], nb_features=features, causal=True)


# Ways to compute each form, by what they are called where there are several.
FORMS = {"softmax": {"": softmax}, "sliding_window": {"": sliding_window},
         "linear": {f"chunks of {chunk}": lambda work, chunk=chunk: linear(chunk) for chunk in (64, 128)},
         "performer": {"": performer}}


class Case:
    """One form at one length, by one of its ways."""

    def __init__(self, way, attend, work, length):
        torch.manual_seed(0)
        self.way = way
        dtype = getattr(torch, work["dtype"])
        shape = (work["batch"], work["heads"], length, work["width"])
        self.attend = attend
        self.inputs = [torch.randn(shape).to(dtype).requires_grad_() for _ in range(3)]
        self.upstream = torch.randn(shape).to(dtype)

    def run(self):
        for x in self.inputs:
            x.grad = None
        output = self.attend(*self.inputs)
        output.backward(self.upstream.to(output.dtype))


def fastest(cases, now):
    """Of these, by the median of five calls in turns after one that is not timed; a single one is called once."""
    times = {case: [] for case in cases}
    for _ in range(6 if len(times) > 1 else 1):
        for case, of_case in times.items():
            begin = now()
            case.run()
            of_case.append(now() - begin)
    return min(times, key=lambda case: statistics.median(times[case][1:] or times[case]))


def attend_by(make, work):
    attend = make(work)
    return attend.to(getattr(torch, work["dtype"])) if isinstance(attend, torch.nn.Module) else attend


def main():
    work, now = first_question()
    forms, left_out, cases = {}, [], {}
    for name in work["forms"]:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # packages print
                ways = {way: attend_by(make, work) for way, make in FORMS[name].items()}
                for way, attend in ways.items():
                    Case(way, attend, work, 256).run()
            forms[name] = ways
        except Exception as error:  # a package that is missing, a dtype that it does not take
            left_out.append({"variant": name, "reason": reason(error)})
    answer({"torch": torch.__version__, "forms": list(forms), "left_out": left_out})
    for line in sys.stdin:
        question = json.loads(line)
        key = question["form"], question["length"]
        if key not in cases:
            cases = {old: case for old, case in cases.items() if old[1] == key[1]}  # of this length alone
            cases[key] = fastest((Case(way, attend, work, key[1]) for way, attend in forms[key[0]].items()), now)
        begin = now()
        for _ in range(question["calls"]):
            cases[key].run()
        answer({"ms": (now() - begin) * 1e3, "way": cases[key].way})


if __name__ == "__main__":
    main()

"""The other side of `attnscale bench attention --against python`: attention as people run it in PyTorch.

Reads one JSON document a line and answers each with one. The first describes the work and is answered with the forms
that there are and why others are not; each {"form": name, "length": T} then makes one forward and backward pass and
answers {"ms": time}. Nothing happens between two questions, so that the two programs take turns on one machine.
"""

import contextlib
import json
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


def linear(work):
    """elu + 1 features in chunks of 128, sums carried from chunk to chunk; what plain PyTorch can do."""
    chunk = 128

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


FORMS = {"softmax": softmax, "sliding_window": sliding_window, "linear": linear, "performer": performer}


class Case:
    def __init__(self, attend, work, length):
        torch.manual_seed(0)
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


def main():
    work, now = first_question()
    forms, left_out, cases = {}, [], {}
    for name in work["forms"]:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # packages print
                attend = FORMS[name](work)
                if isinstance(attend, torch.nn.Module):
                    attend = attend.to(getattr(torch, work["dtype"]))
                Case(attend, work, 256).run()
            forms[name] = attend
        except Exception as error:  # a package that is missing, a dtype that it does not take
            left_out.append({"variant": name, "reason": reason(error)})
    answer({"torch": torch.__version__, "forms": list(forms), "left_out": left_out})
    for line in sys.stdin:
        question = json.loads(line)
        key = question["form"], question["length"]
        if key not in cases:
            cases = {old: case for old, case in cases.items() if old[1] == key[1]}  # of this length alone
            cases[key] = Case(forms[key[0]], work, key[1])
            cases[key].run()
        begin = now()
        cases[key].run()
        answer({"ms": (now() - begin) * 1e3})


if __name__ == "__main__":
    main()

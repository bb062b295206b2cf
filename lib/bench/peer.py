"""The other side of `attnscale bench train`, `curve` and `sweep` with `--against python`: a GPT training loop as people
write it in PyTorch.

Reads one JSON document a line and answers each with one. The first describes the work and names the modes that are
wanted; it is answered with those that there are. Each {"mode": name} then makes one training step in that mode and
answers {"ms": time}; with "steps" as many; with "tokens" (rows of one token more than the context) and "rate" on these,
and the answer has the loss before the update too. {"end": true} asks for what the process held at most. Nothing happens
between two questions, so that the two programs take turns on one machine.
"""

import json
import resource
import sys

from peer_common import GptParts, Layers, answer, first_question, read_weights, reason

import torch
from torch import nn
from torch.nn import functional as F


class Block(Layers):
    def forward(self, x):
        return self.joined(x, F.scaled_dot_product_attention(*self.split(x), is_causal=True))


class Gpt(GptParts):
    def __init__(self, work):
        super().__init__(work, Block)

    def forward(self, tokens, targets):
        x = self.token(tokens) + self.position.weight[:tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.token.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class Training:
    """One model in one mode. `step` is what a training loop does for each batch."""

    def __init__(self, work, compiled, bfloat16):
        torch.manual_seed(0)
        self.work, self.bfloat16 = work, bfloat16
        self.model = Gpt(work)
        if work["weights"]:
            self.model.load_state_dict(read_weights(work["weights"]))
        self.loss_of = torch.compile(self.model) if compiled else self.model
        self.data = torch.randint(work["vocab"], (100_000,))
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], lr=work["learning_rate"],
            betas=tuple(work["betas"]), eps=work["epsilon"], weight_decay=work["weight_decay"], fused=True)

    def batch(self):
        context = self.work["context"]
        starts = torch.randint(len(self.data) - context - 1, (self.work["batch"],)).tolist()
        return (torch.stack([self.data[i:i + context] for i in starts]),
                torch.stack([self.data[i + 1:i + 1 + context] for i in starts]))

    def step(self, tokens, targets):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            loss = self.loss_of(tokens, targets)
        loss.backward()
        if self.work["clip_norm"] > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.work["clip_norm"], foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def answer(self, question):
        if "tokens" in question:
            rows = torch.tensor(question["tokens"])
            for group in self.optimizer.param_groups:
                group["lr"] = question["rate"]
            return {"loss": self.step(rows[:, :-1], rows[:, 1:])}
        for _ in range(question.get("steps", 1)):
            self.step(*self.batch())
        return {}


def main():
    work, now = first_question()
    modes, left_out = {}, []
    for name in work["modes"]:
        how, dtype = name.split()
        try:
            training = Training(work, how == "compiled", dtype == "bfloat16")
            for _ in range(work["warmup"]):
                training.step(*training.batch())
            modes[name] = training
        except Exception as error:  # a compiler that is missing, an instruction that the machine lacks
            left_out.append({"mode": name, "reason": reason(error)})
    answer({"torch": torch.__version__, "modes": list(modes), "left_out": left_out,
            "params": sum(p.numel() for p in next(iter(modes.values())).model.parameters()) if modes else 0})
    for line in sys.stdin:
        question = json.loads(line)
        if "end" in question:
            answer({"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
            return
        begin = now()
        result = modes[question["mode"]].answer(question)
        answer({"ms": (now() - begin) * 1e3} | result)


main()

"""The other side of `attnscale bench generate --against python`: a GPT that decodes with a cache, as people write it in
PyTorch: keys and values go into tensors that were made as long as the text will be.

Reads one JSON document a line and answers each with one. The first describes the work, with a file of weights or the
model's own, and is answered with the modes that there are; {"mode": name, "length": T} reads on until the text has T
tokens, {"mode": name, "text": [tokens]} reads these on, and {"mode": name, "tokens": n} then adds n tokens, the most
probable each. Each answers {"ms": time of all, "newest": the most probable token}, and of a text that was given the
logits too. Nothing happens between two questions, so that the two programs take turns on one machine.
"""

import json
import sys

from peer_common import GptParts, Layers, answer, first_question, read_weights, reason

import torch
from torch.nn import functional as F


class Block(Layers):
    def forward(self, x, keys, values, first):
        length = x.shape[1]
        q, k, v = self.split(x)
        end = first + length
        keys[:, :, first:end], values[:, :, first:end] = k, v
        mask = None
        if length > 1 and first > 0:
            mask = torch.ones(length, end, dtype=torch.bool).tril(first)
        return self.joined(x, F.scaled_dot_product_attention(q, keys[:, :, :end], values[:, :, :end], attn_mask=mask,
                                                             is_causal=length > 1 and first == 0))


class Decoder(GptParts):
    """A model and the text that it has read."""

    def __init__(self, work, dtype):
        torch.manual_seed(0)
        super().__init__(work, Block)
        if work["weights"]:
            self.load_state_dict(read_weights(work["weights"]))
        self.to(dtype)
        shape = (1, work["heads"], work["context"], work["dim"] // work["heads"])
        self.caches = [(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)) for _ in self.blocks]
        self.forget()

    def forget(self):
        self.length, self.newest = 0, 0

    def forward(self, tokens):
        count = tokens.shape[1]
        x = self.token(tokens) + self.position.weight[self.length:self.length + count]
        for block, (keys, values) in zip(self.blocks, self.caches):
            x = block(x, keys, values, self.length)
        self.length += count
        return F.linear(self.norm(x[:, -1:]), self.token.weight)[0, -1]

    def read(self, length, vocab):
        while self.length < length:
            self.continue_with(torch.randint(vocab, (1, min(512, length - self.length))))

    def continue_with(self, tokens):
        logits = self(tokens)
        self.newest = int(logits.argmax())
        return logits

    def add(self, count):
        for _ in range(count):
            self.newest = int(self(torch.tensor([[self.newest]])).argmax())


def main():
    work, now = first_question()
    modes, left_out = {}, []
    with torch.inference_mode():
        for name, dtype in (("eager float32", torch.float32), ("eager bfloat16", torch.bfloat16)):
            try:
                model = Decoder(work, dtype).eval()
                model.read(1, work["vocab"])
                model.add(1)
                model.forget()
                modes[name] = model
            except Exception as error:  # a dtype that some operator lacks
                left_out.append({"mode": name, "reason": reason(error)})
        answer({"torch": torch.__version__, "modes": list(modes), "left_out": left_out,
                "params": sum(p.numel() for p in next(iter(modes.values())).parameters()) if modes else 0})
        for line in sys.stdin:
            question = json.loads(line)
            model, more = modes[question["mode"]], {}
            begin = now()
            if "length" in question:
                model.read(question["length"], work["vocab"])
            elif "text" in question:
                more["logits"] = model.continue_with(torch.tensor([question["text"]])).tolist()
            else:
                model.add(question["tokens"])
            answer({"ms": (now() - begin) * 1e3, "newest": model.newest} | more)


main()

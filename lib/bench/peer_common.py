"""What the scripts of `attnscale bench --against python` share; the program gives it to each as the module peer_common."""

import json
import sys
import time

try:
    import torch
    from torch import nn
except ImportError as error:
    print(json.dumps({"error": f"cannot import torch: {error}"}), flush=True)
    sys.exit(0)


def answer(value):
    print(json.dumps(value), flush=True)


def first_question():
    """The description of the work, and the clock that it asks for."""
    work = json.loads(sys.stdin.readline())
    torch.set_num_threads(work["threads"])
    return work, time.process_time if work["clock"] == "processor" else time.monotonic


def reason(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


def own_name(name):
    """The name here of a parameter of the other program."""
    for theirs, ours in (("embedding.token", "token.weight"), ("embedding.position", "position.weight"),
                         ("mixer.output.", "out."), ("mixer.", ""), ("feed_forward.", ""), ("final_norm.", "norm.")):
        name = name.replace(theirs, ours)
    return name


def read_weights(path):
    """A safetensors file of float32: the length of a JSON header, the header, the numbers."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        numbers = bytearray(file.read())
    header.pop("__metadata__", None)
    return {own_name(name): torch.frombuffer(numbers, dtype=torch.float32, offset=about["data_offsets"][0],
                                             count=torch.Size(about["shape"]).numel()).view(about["shape"])
            for name, about in header.items()}


class Layers(nn.Module):
    """What a block of a GPT is made of."""

    def __init__(self, dim, heads, bias):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, bias=bias), nn.LayerNorm(dim, bias=bias)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=bias), nn.Linear(dim, dim, bias=bias)
        self.up, self.down = nn.Linear(dim, 4 * dim, bias=bias), nn.Linear(4 * dim, dim, bias=bias)

    def split(self, x):
        """Queries, keys and values by heads."""
        rows, length, dim = x.shape
        return [part.view(rows, length, self.heads, -1).transpose(1, 2)
                for part in self.qkv(self.norm1(x)).split(dim, -1)]

    def joined(self, x, mixed):
        """The stream after what attention mixed and the feed-forward network."""
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class GptParts(nn.Module):
    """Embeddings, blocks and the last norm, whose head is the embedding."""

    def __init__(self, work, block):
        super().__init__()
        self.token, self.position = (nn.Embedding(work[rows], work["dim"]) for rows in ("vocab", "context"))
        self.blocks = nn.ModuleList(block(work["dim"], work["heads"], work["bias"]) for _ in range(work["depth"]))
        self.norm = nn.LayerNorm(work["dim"], bias=work["bias"])
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

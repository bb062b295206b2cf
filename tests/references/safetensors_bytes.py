"""Are our safetensors files those of PyPI's `safetensors`, byte for byte?

usage: safetensors_bytes.py REFERENCE_TRAINING   (the test program; its `copy` mode reads and writes)

Files written by the Python package are read and written again by our code, and must come out the
same; what our code wrote must also load in the package. Exit status 77: packages missing.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)


def cases():
    torch.manual_seed(0)
    yield "one", {"weight": torch.randn(3, 5)}, None
    yield "metadata", {"weight": torch.randn(2)}, {"format": "pt"}
    yield "empty", {}, None
    yield "shapes", {"scalar": torch.randn(()), "nothing": torch.zeros(0, 4), "deep": torch.randn(1, 2, 1, 3)}, None
    kinds = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.float16, torch.bfloat16, torch.int32,
             torch.uint32, torch.float32, torch.complex64, torch.float64, torch.int64, torch.uint64,
             torch.float8_e5m2, torch.float8_e4m3fn]  # fmt: skip
    tensors = {}
    for index, kind in enumerate(kinds):
        # Names run against the order of dtypes, so that a wrong sort is seen.
        tensors[f"{'zyx'[index % 3]}.{index}"] = (torch.arange(index + 3) % 2).to(kind)
    yield "kinds", tensors, None
    yield "names", {'with "quotes"': torch.ones(1), "é/\t\x01\x7f": torch.ones(2), "b.10": torch.ones(1), "b.9": torch.ones(1)}, None


def main(program):
    with tempfile.TemporaryDirectory() as folder:
        for name, tensors, metadata in cases():
            theirs, ours = Path(folder, f"{name}.theirs"), Path(folder, f"{name}.ours")
            save_file(tensors, theirs, metadata=metadata)
            subprocess.run([program, "copy", theirs, ours], check=True)
            if theirs.read_bytes() != ours.read_bytes():
                sys.exit(f"{name}: bytes differ\ntheirs {theirs.read_bytes()[:400]}\nours   {ours.read_bytes()[:400]}")
            with safe_open(ours, "pt") as opened:
                for key, tensor in tensors.items():
                    assert torch.equal(opened.get_tensor(key).view(torch.uint8) if tensor.dim() else opened.get_tensor(key),
                                       tensor.view(torch.uint8) if tensor.dim() else tensor), key  # fmt: skip
            print(f"{name}: {len(theirs.read_bytes())} bytes, the same")


if __name__ == "__main__":
    main(sys.argv[1])

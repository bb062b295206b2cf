"""Our attention variants against published implementations: same weights, same outputs and gradients.

usage: outside.py PROGRAM PACKAGE    the comparisons with one package of PyPI; PROGRAM is reference_attention
       outside.py PROGRAM --write    all of them, and the table in docs/reference/outside.md anew
       outside.py --check            is that table about these comparisons, and within the tolerances? Needs no packages

A comparison (outside_<family>.py) builds the published module with random weights in float64, and the same
computation with our variant in the middle. Their outputs, and the gradients of a random projection of the outputs to
the inputs and every weight, must agree. So must our decoding, where a variant has it. Then each comparison is made
with our values moved on by one position, which it must notice.

Exit status: 0 equal, 1 not, 77 when a package is missing.
"""

import contextlib
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

# float64 on both sides, sums of some hundred terms in other orders: 1e-14 or so. A wrong definition shows at 1e-3.
TOLERANCE = 1e-10
# In units of the tolerance: what a fault that was planted must at least change.
NOTICED = 1e4
TABLE = Path(__file__).resolve().parents[2] / "docs/reference/outside.md"


@dataclass
class Case:
    name: str
    variant: str
    form: str
    package: str
    what: str
    note: str
    tolerance: float
    build: Callable


CASES: list[Case] = []


def compare(variant, form, package, what, note="", tolerance=TOLERANCE):
    """Registers a function that returns their output, a function that makes ours, and the leaves for gradients."""

    def register(build):
        CASES.append(Case(build.__name__, variant, form, package, what, note, tolerance, build))
        return build

    return register


# ------------------------------------------------------------------------------------------ our side


@dataclass
class Bridge:
    """How PROGRAM is asked, and what it said about decoding."""

    program: str = ""
    sabotage: bool = False
    decode_distance: float = 0.0
    calls: int = field(default=0)


BRIDGE = Bridge()


def ask(config, tensors):
    from safetensors.torch import load_file, save_file

    BRIDGE.calls += 1
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("config.json", "inputs.safetensors", "output.safetensors")]
        Path(files[0]).write_text(json.dumps(config), encoding="utf-8")
        save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, files[1])
        subprocess.run([BRIDGE.program, *files], check=True)
        return load_file(files[2])


def attention(variant, options=None, *, query=None, key=None, value=None, hidden=None, gates=None, parameters=None,
              buffers=None, causal=False, key_padding=None, **geometry):
    """One of our variants as a differentiable function; shapes as in lib/attention/attention.h."""
    import torch

    named = {"query": query, "key": key, "value": value, "hidden": hidden}
    named |= {f"gate {name}": tensor for name, tensor in (gates or {}).items()}
    named |= {f"parameter {name}": tensor for name, tensor in (parameters or {}).items()}
    named = {name: tensor for name, tensor in named.items() if tensor is not None}
    if query is not None:
        geometry = {"num_heads": query.shape[1], "num_kv_heads": key.shape[1], "head_dim": query.shape[3],
                    "value_dim": value.shape[3], "context": key.shape[2]} | geometry  # fmt: skip
    else:
        geometry = {"context": hidden.shape[2], "model_dim": hidden.shape[3]} | geometry
    config = {"attention": {"variant": variant} | (options or {}), "geometry": geometry | {"causal": causal}}
    constants = {} if key_padding is None else {"key_padding": key_padding}
    constants |= {f"parameter {name}": tensor for name, tensor in (buffers or {}).items()}
    if BRIDGE.sabotage:
        moved = "value" if value is not None else "hidden"
        named[moved] = named[moved].roll(1, 2)

    class Ours(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.save_for_backward(*tensors)
            result = ask(config, dict(zip(named, tensors)) | constants)
            if "decoded" in result:
                BRIDGE.decode_distance = max(BRIDGE.decode_distance, distance(result["decoded"], result["output"]))
            return result["output"]

        @staticmethod
        def backward(ctx, gradient):
            result = ask(config, dict(zip(named, ctx.saved_tensors)) | constants | {"output_gradient": gradient})
            return tuple(result[f"gradient {name}"] for name in named)

    return Ours.apply(*named.values())


# ---------------------------------------------------------------------------------------- their side


@contextlib.contextmanager
def float64_throughout():
    """Many published modules cast to float32 in the middle, whatever the inputs; here nothing must round to that."""
    import torch

    def without_cast(original):
        def called(*arguments, **options):
            if arguments and isinstance(arguments[0], torch.Tensor) and arguments[0].dtype == torch.float64:
                if options.get("dtype") == torch.float32:
                    options = options | {"dtype": torch.float64}
                arguments = tuple(torch.float64 if item is torch.float32 else item for item in arguments)
            return original(*arguments, **options)

        return called

    places = [(torch.Tensor, "to"), (torch, "sum"), (torch, "softmax"), (torch.nn.functional, "softmax")]
    originals = [getattr(*place) for place in places] + [torch.Tensor.float]
    for place, original in zip(places, originals):
        setattr(*place, without_cast(original))
    torch.Tensor.float = lambda x: x if x.dtype == torch.float64 else x.to(torch.float32)
    try:
        yield
    finally:
        for place, original in zip(places + [(torch.Tensor, "float")], originals):
            setattr(*place, original)


def randomised(module, scale=0.3):
    """In float64, every parameter random (norms' weights near 1), without dropout."""
    import torch

    module = module.double().eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            is_norm = parameter.dim() == 1 and "norm" in name.lower() and name.endswith("weight")
            parameter.normal_(1.0 if is_norm else 0.0, scale)
    return module


def leaf(*shape):
    import torch

    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def heads(x, count):
    """[B, T, H D] -> [B, H, T, D]"""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def merged(x):
    """[B, H, T, D] -> [B, T, H D]"""
    return x.transpose(1, 2).flatten(2)


# ----------------------------------------------------------------------------------------- comparing


def distance(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def gradients(output, leaves):
    import torch

    torch.manual_seed(2)
    weight = torch.randn(output.shape, dtype=output.dtype)  # not randn_like, which follows the strides
    found = torch.autograd.grad((output * weight).sum(), leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves)]


def measure(case):
    """Distances of outputs and gradients: largest difference over the largest number."""
    import torch

    torch.manual_seed(1)
    BRIDGE.sabotage, BRIDGE.decode_distance = False, 0.0
    with float64_throughout():
        theirs, make_ours, leaves = case.build()
        ours = make_ours()
        assert theirs.shape == ours.shape, f"{case.name}: {list(theirs.shape)} and {list(ours.shape)}"
        outputs = distance(ours, theirs)
        their_gradients, our_gradients = gradients(theirs, leaves), gradients(ours, leaves)
        scale = max(gradient.abs().max() for gradient in their_gradients)
        slopes = max(((a - b).abs().max() / scale).item() for a, b in zip(our_gradients, their_gradients))
        decoding = BRIDGE.decode_distance
        BRIDGE.sabotage = True
        with torch.no_grad():
            fault = distance(make_ours(), theirs)
        BRIDGE.sabotage = False
    return outputs, slopes, decoding, fault


def compared(case):
    """Prints the outcome. @return whether it is equal, and the row of the table"""
    outputs, slopes, decoding, fault = measure(case)
    equal = outputs <= case.tolerance and slopes <= case.tolerance and decoding <= TOLERANCE
    noticed = fault > NOTICED * case.tolerance
    print(f"{'equal' if equal else 'DIFFERENT'}: {case.variant} ({case.form}) and {case.package}'s {case.what}: "
          f"outputs {outputs:.1e}, gradients {slopes:.1e}, allowed {case.tolerance:.0e}; with a fault {fault:.1e}",
          flush=True)  # fmt: skip
    if not noticed:
        print(f"  a planted fault was not seen in {case.name}")
    return equal and noticed, (case, outputs, slopes)


def version(package):
    return importlib.metadata.version(package)


def load_cases(packages=None):
    for file in sorted(Path(__file__).parent.glob("outside_*.py")):
        importlib.import_module(file.stem)
    return [case for case in CASES if packages is None or case.package in packages]


# -------------------------------------------------------------------------------------------- table

INTRODUCTION = """# Compared from outside

Each variant below was put in the place of a published implementation's attention, with the same random weights and
inputs, in float64 on both sides (where their code casts to float32 in the middle, that cast was left out). The distance
is the largest difference over the largest number, of the outputs and of the gradients to the inputs and every weight.
Comparisons are in `tests/references`; `scripts/test.sh --references` installs the packages and runs them, and
`tests/references/outside.py PROGRAM --write` writes this page.

"""


def not_compared():
    """The sentence about the variants without a comparison; each variant is one file, named as it is."""
    files = (Path(__file__).resolve().parents[2] / "lib/attention/variants").glob("*.cpp")
    names = sorted({file.stem for file in files} - {case.variant for case in CASES})
    return f"\nNot compared: {', '.join(f'`{name}`' for name in names)}.\n" if names else ""


def row_key(case):
    return f"| `{case.variant}` | {case.form} | {case.package} | {case.what} |"


def write_table(rows):
    versions = {case.package: version(case.package) for case, *_ in rows}
    text = INTRODUCTION + "| variant | form | package | compared with | outputs | gradients | allowed | notes |\n"
    text += "|---|---|---|---|---|---|---|---|\n"
    for case, outputs, slopes in sorted(rows, key=lambda row: (row[0].variant, row[0].package, row[0].form)):
        text += f"{row_key(case)} {outputs:.0e} | {slopes:.0e} | {case.tolerance:.0e} | {case.note} |\n"
    text += "\nVersions: " + ", ".join(f"{name} {versions[name]}" for name in sorted(versions)) + ".\n"
    text += not_compared()
    TABLE.write_text(text, encoding="utf-8")


def check_table():
    text = TABLE.read_text(encoding="utf-8")
    problems = [f"no row for {case.name}: {row_key(case)}" for case in load_cases() if row_key(case) not in text]
    if not_compared() not in text:
        problems.append("the variants that were not compared are others")
    rows = re.findall(r"^\| `.*$", text, re.MULTILINE)
    if len(rows) != len(CASES):
        problems.append(f"{len(rows)} rows for {len(CASES)} comparisons")
    for row in rows:
        *_, outputs, slopes, allowed, _, _ = row.split("|")
        if max(float(outputs), float(slopes)) > float(allowed):
            problems.append(f"beyond its tolerance: {row}")
    for problem in problems:
        print(problem)
    if problems:
        print(f"write {TABLE.name} anew: tests/references/outside.py PROGRAM --write")
    return 1 if problems else 0


def main(arguments):
    if arguments == ["--check"]:
        return check_table()
    if len(arguments) != 2:
        print(__doc__)
        return 2
    BRIDGE.program, package = arguments
    cases = load_cases(None if package == "--write" else {package})
    if not cases:
        print(f"no comparison with a package {package}")
        return 2
    try:
        for name in sorted({case.package for case in cases} | {"torch", "safetensors"}):
            version(name)
    except importlib.metadata.PackageNotFoundError as missing:
        print(f"skipped: the Python package {missing.name} is missing; scripts/bootstrap.sh --references installs it")
        return 77
    import torch

    torch.set_num_threads(1)
    outcomes = [compared(case) for case in cases]
    failed = not all(equal for equal, _ in outcomes)
    if package == "--write" and not failed:
        write_table([row for _, row in outcomes])
    return 1 if failed else 0


if __name__ == "__main__":
    # The case files import this file by its name; without this they would fill a second copy's list.
    sys.modules["outside"] = sys.modules["__main__"]
    sys.exit(main(sys.argv[1:]))

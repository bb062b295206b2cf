"""Our logits against those of PyPI's `transformers`, with the same random weights.

usage: logits_test.py REFERENCE_LOGITS MODEL, one of those in architectures.py

Every parameter is drawn at random, biases and norms too, so that none can be mistaken for another.
Exit status: 0 equal, 1 not, 77 when torch, transformers or safetensors cannot be imported.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import torch
    from safetensors.torch import load_file, save_file
    from architectures import CONTEXT, GRADIENTS, MODELS, VOCABULARY
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

# In units of the logits' standard deviation, in float32. For gpt2 it is 0.8, and transformers' own float32 differs from
# its float64 by 2e-6.
TOLERANCE = 1e-5
BATCH, LENGTH = 3, 40


# Of the largest number of a gradient, in float32: sums over positions of sums over layers.
GRADIENT_TOLERANCE = 1e-4


def our_logits(program, weights, options, attention, tokens, gradients=False):
    with tempfile.TemporaryDirectory() as folder:
        config, tensors, output = (Path(folder) / name for name in ("config.json", "weights.safetensors", "out.safetensors"))
        config.write_text(json.dumps({"model": options, "attention": {"variant": "softmax"} | attention,
                                      "context": CONTEXT, "tokens": tokens.tolist(), "gradients": gradients}))
        save_file({name: value.clone().contiguous() for name, value in weights.items()}, tensors)
        subprocess.run([program, config, tensors, output], check=True)
        return load_file(output)


def compare_gradients(which, model, ours, tokens):
    """Those of the mean square of the logits, and what the model adds to a training loss. Overwrites the weights."""
    weights_of, auxiliary_of = GRADIENTS[which]
    auxiliary = auxiliary_of(model, tokens).item()
    model(tokens).logits.square().mean().backward()
    for parameter in model.parameters():
        parameter.data = parameter.grad
    worst = 0.0
    for name, theirs in weights_of(model).items():
        worst = max(worst, (ours[f"gradient.{name}"] - theirs).abs().max().item() / theirs.abs().max().item())
    difference = abs(ours["auxiliary"].item() - auxiliary) / auxiliary
    print(f"{which} gradients: largest difference over the largest number {worst:.2e} (allowed {GRADIENT_TOLERANCE:.0e}); "
          f"loss of the routers {auxiliary:.4f}, difference {difference:.2e}")
    return not (worst <= GRADIENT_TOLERANCE and difference <= TOLERANCE)


def main(program, which):
    model, weights, options, attention = MODELS[which]()
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH))
    with torch.no_grad():
        theirs = model(tokens)
        theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.logits
    allowed = TOLERANCE * max(1, theirs.std().item())
    ours = our_logits(program, weights, options, attention, tokens, gradients=which in GRADIENTS)
    failed = False
    for name in ours.keys() & {"logits", "decoded"}:
        difference = (ours[name].view_as(theirs) - theirs).abs().max().item()
        print(f"{which} {name}: largest difference {difference:.2e} (allowed {allowed:.0e}), "
              f"standard deviation of the logits {theirs.std().item():.2f}")
        failed |= not difference <= allowed
    if which in GRADIENTS:
        weights = {name: value.clone() for name, value in weights.items()}
        failed |= compare_gradients(which, model, ours, tokens)
    # The comparison can fail: swapping two rows of one matrix must show.
    name = "blocks.1.mixer.qkv.weight"
    weights[name] = weights[name].clone()
    weights[name][[0, 1]] = weights[name][[1, 0]]
    if (our_logits(program, weights, options, attention, tokens)["logits"].view_as(theirs) - theirs).abs().max().item() <= 100 * allowed:
        print("a fault planted in one matrix was not seen")
        failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Comparisons with the plain references of flash-linear-attention, in its package fla-core. See outside.py.

Their files are loaded one by one: the package itself wants Triton, which these do not use.
"""

from outside import attention, compare, leaf


def naive(folder):
    """The module fla/ops/FOLDER/naive.py."""
    import importlib.metadata
    import importlib.util

    file = importlib.metadata.distribution("fla-core").locate_file(f"fla/ops/{folder}/naive.py")
    spec = importlib.util.spec_from_file_location(f"fla_naive_{folder.replace('/', '_')}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def turned(*tensors):
    """[B, H, T, ..] -> [B, T, H, ..] and back"""
    return [x.transpose(1, 2) for x in tensors]


def inputs():
    """Query, key and value for 2 rows, 3 heads, 37 positions, of widths 8, 8 and 5."""
    return leaf(2, 3, 37, 8), leaf(2, 3, 37, 8), leaf(2, 3, 37, 5)


@compare("gated_linear", "causal", "fla-core", "naive_recurrent_gla", "without output norm and gate")
def gated_linear_fla():
    import torch

    query, key, value = inputs()
    decay = leaf(2, 3, 37, 8)
    log_decay = torch.nn.functional.logsigmoid(decay) / 16
    theirs, _ = naive("gla").naive_recurrent_gla(*turned(query, key, value, log_decay))

    def ours():
        y = attention("gated_linear", {"output_norm": False, "output_gate": False}, query=query, key=key, value=value,
                      causal=True, gates={"decay": decay})  # fmt: skip
        return turned(y)[0]

    return theirs, ours, [query, key, value, decay]


@compare("retention", "causal", "fla-core", "naive_retention",
         "without output norm and gate; its decays are powers in float32", 1e-5)  # fmt: skip
def retention_fla():
    query, key, value = inputs()
    theirs = naive("retention").naive_retention(query, key, value)

    def ours():
        return attention("retention", {"output_norm": False, "output_gate": False}, query=query, key=key, value=value,
                         causal=True)  # fmt: skip

    return theirs, ours, [query, key, value]


@compare("taylor", "causal", "fla-core", "naive_parallel_based")
def taylor_fla():
    query, key, value = inputs()
    theirs = naive("based").naive_parallel_based(query, key, value)
    return theirs, lambda: attention("taylor", query=query, key=key, value=value, causal=True), [query, key, value]


@compare("forgetting", "causal, grouped heads", "fla-core", "naive_forgetting_attn")
def forgetting_fla():
    import torch

    query, key, value, forget = leaf(2, 4, 37, 8), leaf(2, 2, 37, 8), leaf(2, 2, 37, 5), leaf(2, 4, 37, 1)
    log_forget = torch.nn.functional.logsigmoid(forget.squeeze(-1))
    theirs = naive("forgetting_attn").naive_forgetting_attn(*turned(query, key, value, log_forget))

    def ours():
        y = attention("forgetting", query=query, key=key, value=value, causal=True, gates={"forget": forget})
        return turned(y)[0]

    return theirs, ours, [query, key, value, forget]


def stepped(step, log_rate, step_bias):
    """Mamba-2's steps d [B, H, T] and log decays -exp(log_rate) d."""
    import torch

    steps = torch.nn.functional.softplus(step.squeeze(-1) + step_bias.view(3, 1))
    return steps, -log_rate.exp().view(3, 1) * steps


@compare("state_space", "causal", "fla-core", "naive_recurrent_simple_gla", "steps, decay and skip put around it")
def state_space_fla():
    query, key, value = inputs()
    step, log_rate, step_bias, skip = leaf(2, 3, 37, 1), leaf(3), leaf(3), leaf(3)
    steps, log_decay = stepped(step, log_rate, step_bias)
    theirs, _ = naive("simple_gla").naive_recurrent_simple_gla(
        *turned(query, key, value * steps.unsqueeze(-1), log_decay), scale=1.0)  # fmt: skip
    theirs = theirs + turned(skip.view(3, 1, 1) * value)[0]

    def ours():
        y = attention("state_space", query=query, key=key, value=value, causal=True, gates={"step": step},
                      parameters={"log_rate": log_rate, "step_bias": step_bias, "skip": skip})  # fmt: skip
        return turned(y)[0]

    return theirs, ours, [query, key, value, step, log_rate, step_bias, skip]


@compare("log_linear", "causal", "fla-core", "naive_log_linear_attn", "steps, decay, skip and softplus put around it")
def log_linear_fla():
    import torch

    query, key, value = inputs()
    step, levels, log_rate, step_bias, skip = leaf(2, 3, 37, 1), leaf(2, 3, 37, 7), leaf(3), leaf(3), leaf(3)
    steps, log_decay = stepped(step, log_rate, step_bias)
    theirs = naive("log_linear_attn").naive_log_linear_attn(
        *turned(query, key, value * steps.unsqueeze(-1), log_decay, torch.nn.functional.softplus(levels)))  # fmt: skip
    theirs = theirs + turned(skip.view(3, 1, 1) * value)[0]

    def ours():
        y = attention("log_linear", query=query, key=key, value=value, causal=True,
                      gates={"step": step, "levels": levels},
                      parameters={"log_rate": log_rate, "step_bias": step_bias, "skip": skip})  # fmt: skip
        return turned(y)[0]

    return theirs, ours, [query, key, value, step, levels, log_rate, step_bias, skip]


@compare("rwkv7", "causal", "fla-core", "dplr_recurrence", "decay, rate, removal and replacement put around it")
def rwkv7_fla():
    import math

    import torch

    query, key, value = inputs()
    decay, rate = leaf(2, 3, 37, 8), leaf(2, 3, 37, 8)
    decay_bias, removal, replacement = leaf(24), leaf(24), leaf(24)
    rates = rate.sigmoid()
    removed = key * removal.view(3, 1, 8)
    removed = removed / (removed.square().sum(-1, keepdim=True) + 1e-6).sqrt()
    replaced = key * (1 + (rates - 1) * replacement.view(3, 1, 8))
    theirs, _ = naive("generalized_delta_rule/dplr").dplr_recurrence(
        query * 8**0.5, replaced, value, removed, -rates * removed,
        -math.exp(-0.5) * (decay + decay_bias.view(3, 1, 8)).sigmoid())  # fmt: skip

    def ours():
        return attention("rwkv7", query=query, key=key, value=value, causal=True,
                         gates={"decay": decay, "rate": rate},
                         parameters={"decay_bias": decay_bias, "removal": removal, "replacement": replacement})  # fmt: skip

    return theirs, ours, [query, key, value, decay, rate, decay_bias, removal, replacement]

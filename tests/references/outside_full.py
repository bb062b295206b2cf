"""Comparisons of the full family with published implementations. See outside.py."""

from outside import attention, compare, heads, leaf, merged, randomised


@compare("softmax", "causal, grouped heads", "torch", "scaled_dot_product_attention, math kernel")
def softmax_torch_grouped():
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    query, key, value = leaf(2, 6, 33, 8), leaf(2, 2, 33, 8), leaf(2, 2, 33, 8)
    with sdpa_kernel(SDPBackend.MATH):
        theirs = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    return theirs, lambda: attention("softmax", query=query, key=key, value=value, causal=True), [query, key, value]


@compare("softmax", "cross, padding", "torch", "nn.MultiheadAttention")
def softmax_torch_multihead():
    import torch

    module = randomised(torch.nn.MultiheadAttention(24, 3, batch_first=True))
    to, source = leaf(2, 7, 24), leaf(2, 19, 24)
    real = torch.ones(2, 19, dtype=torch.bool)
    real[1, 11:] = False
    theirs, _ = module(to, source, source, key_padding_mask=~real, need_weights=False)

    def ours():
        weights, biases = module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
        q, k, v = (heads(x @ w.T + b, 3) for x, w, b in zip((to, source, source), weights, biases))
        return module.out_proj(merged(attention("softmax", query=q, key=k, value=v, key_padding=real)))

    return theirs, ours, [to, source, *module.parameters()]


@compare("softmax", "causal, grouped heads", "x-transformers", "Attention",
         "its heads take turns with the key-value heads, ours are neighbours: reordered")  # fmt: skip
def softmax_x_transformers():
    from x_transformers.x_transformers import Attention

    module = randomised(Attention(24, dim_head=8, heads=4, kv_heads=2, causal=True, flash=False))
    x = leaf(2, 21, 24)

    def ours():
        q, k, v = heads(module.to_q(x), 4), heads(module.to_k(x), 2), heads(module.to_v(x), 2)
        y = attention("softmax", query=q[:, [0, 2, 1, 3]], key=k, value=v, causal=True)
        return module.to_out(merged(y[:, [0, 2, 1, 3]]))

    return module(x), ours, [x, *module.parameters()]


@compare("sigmoid", "bidirectional", "x-transformers", "Attention, sigmoid", "theirs has no bias: ours 0")
def sigmoid_x_transformers():
    return x_transformers("sigmoid", {"bias": 0.0}, sigmoid=True)


@compare("forgetting", "causal", "x-transformers", "Attention, data_dependent_alibi")
def forgetting_x_transformers():
    return x_transformers("forgetting", causal=True, data_dependent_alibi=True)


def x_transformers(variant, options=None, causal=False, **theirs):
    from x_transformers.x_transformers import Attention

    module = randomised(Attention(24, dim_head=8, heads=3, causal=causal, flash=False, **theirs))
    x = leaf(2, 21, 24)

    def ours():
        q, k, v = heads(module.to_q(x), 3), heads(module.to_k(x), 3), heads(module.to_v(x), 3)
        gates = {}
        if module.data_dependent_alibi is not None:
            linear = module.data_dependent_alibi.to_forget_gates[0]
            gates = {"forget": linear(x).transpose(1, 2).unsqueeze(-1)}
        return module.to_out(merged(attention(variant, options, query=q, key=k, value=v, causal=causal, gates=gates)))

    return module(x), ours, [x, *module.parameters()]

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


@compare("contextual", "causal", "x-transformers", "Attention, CoPE")
def contextual_x_transformers():
    return x_transformers("contextual", {"positions": 7}, causal=True, use_cope=True, cope_max_pos=7)


def xlnet_case(causal):
    import torch
    from transformers.models.xlnet.modeling_xlnet import XLNetConfig, XLNetModel, XLNetRelativeAttention

    stream, count, positions = 24, 3, 19
    module = randomised(XLNetRelativeAttention(XLNetConfig(d_model=stream, n_head=count, dropout=0.0)))
    x = leaf(2, positions, stream)
    frequencies = 10000.0 ** (-torch.arange(0, stream, 2, dtype=torch.float64) / stream)
    steps = torch.arange(positions, -1 if causal else -positions, -1, dtype=torch.float64)
    sinusoids = XLNetModel.positional_embedding(steps, frequencies, 2)
    q, k, v = (torch.einsum("bih,hnd->ibnd", x, weight) for weight in (module.q, module.k, module.v))
    distances = torch.einsum("lbh,hnd->lbnd", sinusoids, module.r)
    hidden = torch.ones(positions, positions, dtype=torch.float64).triu(1)[:, :, None, None] if causal else None
    theirs = module.rel_attn_core(q, k, v, distances, attn_mask=hidden)

    def ours():
        parameters = {"distance_map": module.r.permute(1, 2, 0).flatten(0, 1), "content": module.r_w_bias,
                      "distance": module.r_r_bias}  # fmt: skip
        q_h, k_h, v_h = (tensor.permute(1, 2, 0, 3) for tensor in (q, k, v))
        y = attention("relative_distance", query=q_h, key=k_h, value=v_h, causal=causal, parameters=parameters,
                      model_dim=stream)  # fmt: skip
        return y.permute(2, 0, 1, 3)

    return theirs, ours, [x, module.q, module.k, module.v, module.r, module.r_w_bias, module.r_r_bias]


@compare("relative_distance", "causal", "transformers", "XLNetRelativeAttention, uni")
def relative_distance_causal():
    return xlnet_case(True)


@compare("relative_distance", "bidirectional", "transformers", "XLNetRelativeAttention, bi")
def relative_distance_bidirectional():
    return xlnet_case(False)


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
        cope = module.attend.cope
        y = attention(variant, options, query=q, key=k, value=v, causal=causal, gates=gates,
                      parameters={"positions": cope.pos_emb} if cope is not None else None)  # fmt: skip
        return module.to_out(merged(y))

    return module(x), ours, [x, *module.parameters()]

"""Comparisons of the memory-compressed family with published implementations. See outside.py."""

from outside import attention, compare, heads, leaf, merged, randomised


def memory_compressed_case(causal):
    from memory_compressed_attention import MemoryCompressedAttention

    module = randomised(MemoryCompressedAttention(24, heads=3, causal=causal))
    x = leaf(2, 27, 24)

    def ours():
        q, k, v = (heads(part, 3) for part in module.to_qkv(x).chunk(3, -1))
        # Theirs divides logits by the root of the model's width, the paper and ours by that of the head's.
        q = q * (8 / 24) ** 0.5
        convolution = module.compress_fn.conv
        weight = convolution.weight.unflatten(0, (3, 8)).permute(0, 3, 2, 1).flatten(1, 2)  # [head, place and in, out]
        weights = {"null_key": module.null_k.flatten(), "null_value": module.null_v.flatten()}
        for kind in ("key", "value"):
            weights |= {f"{kind}_weight": weight, f"{kind}_bias": convolution.bias}
        return module.to_out(merged(attention("memory_compressed", query=q, key=k, value=v, causal=causal,
                                              parameters=weights)))  # fmt: skip

    return module(x), ours, [x, *module.parameters()]


@compare("memory_compressed", "causal", "memory-compressed-attention", "MemoryCompressedAttention",
         "one convolution for keys and values in theirs; queries rescaled, since it divides logits by the root of the "
         "model's width")  # fmt: skip
def memory_compressed_causal():
    return memory_compressed_case(True)


@compare("memory_compressed", "bidirectional", "memory-compressed-attention", "MemoryCompressedAttention",
         "the same")  # fmt: skip
def memory_compressed_bidirectional():
    return memory_compressed_case(False)


@compare("segment_recurrent", "causal, two segments and a part", "transformers",
         "XLNetRelativeAttention.rel_attn_core with cached segments",
         "gradients flow into the cache, as in ours")  # fmt: skip
def segment_recurrent_xlnet():
    import torch
    from transformers import XLNetConfig, XLNetModel
    from transformers.models.xlnet.modeling_xlnet import XLNetRelativeAttention

    H, D, M, L = 3, 8, 24, 8
    module = randomised(XLNetRelativeAttention(XLNetConfig(d_model=M, n_head=H, d_head=D, d_inner=M, dropout=0.0)))
    query, key, value = leaf(2, H, 21, D), leaf(2, H, 21, D), leaf(2, H, 21, D)
    frequencies = 10000.0 ** (-torch.arange(0, M, 2, dtype=torch.float64) / M)
    pieces = []
    for start in range(0, 21, L):
        end, cached = min(start + L, 21), max(start - L, 0)
        distances = torch.arange(end - cached, -1, -1, dtype=torch.float64)
        encoding = XLNetModel.positional_embedding(distances, frequencies, 2)
        at = torch.arange(cached, end)
        hidden = (at[None, :] > at[start - cached:, None]).double()[:, :, None, None]
        q, k, v = (x.permute(2, 0, 1, 3) for x in
                   (query[:, :, start:end], key[:, :, cached:end], value[:, :, cached:end]))  # fmt: skip
        r = torch.einsum("ibh,hnd->ibnd", encoding, module.r)
        pieces.append(module.rel_attn_core(q, k, v, r, attn_mask=hidden).permute(1, 2, 0, 3))
    weights = {"content_bias": module.r_w_bias.flatten(), "position_bias": module.r_r_bias.flatten(),
               "position_weight": module.r.flatten(1).T}  # fmt: skip

    def ours():
        return attention("segment_recurrent", {"segment": L}, query=query, key=key, value=value, causal=True,
                         parameters=weights, model_dim=M)  # fmt: skip

    return torch.cat(pieces, 2), ours, [query, key, value, module.r_w_bias, module.r_r_bias, module.r]


def infini_case(delta_rule):
    import torch
    from infini_transformer_pytorch.infini_transformer import CausalAttention

    H, D, L = 3, 8, 10
    module = randomised(CausalAttention(24, dim_head=D, heads=H, use_mem_delta_rule=delta_rule))
    module.norm = torch.nn.Identity()
    module.rotary_emb.rotate_queries_with_cached_keys = lambda q, k: (q, k)  # without positions
    x = leaf(2, 3 * L, 24)
    pieces, memories = [], None
    for part in x.split(L, 1):
        y, _, memories = module(part, past_memories=memories, return_new_memories=True)
        pieces.append(y)

    def ours():
        q, k, v = module.split_heads(module.to_qkv(x))
        gate = module.fastweight_mem.head_gates
        y = attention("infini", {"segment": L, "delta_rule": delta_rule}, query=q, key=k, value=v, causal=True,
                      parameters={"gate": -gate})  # fmt: skip
        # Theirs leaves the gate out while there is no memory.
        first = y[:, :, :L] / gate.sigmoid()[:, None, None]
        return module.to_out(merged(torch.cat([first, y[:, :, L:]], 2)))

    own = [module.to_qkv.weight, module.to_out.weight, module.fastweight_mem.head_gates]
    return torch.cat(pieces, 1), ours, [x, *own]


@compare("infini", "causal", "infini-transformer-pytorch", "CausalAttention with fast-weight memory",
         "without norm and positions; its gate weighs the softmax, and not in the first segment; ours adds 1e-6 to the "
         "normaliser", 1e-6)  # fmt: skip
def infini_lucidrains():
    return infini_case(False)


@compare("infini", "causal, delta rule", "infini-transformer-pytorch", "CausalAttention with fast-weight memory",
         "the same", 1e-6)  # fmt: skip
def infini_lucidrains_delta():
    return infini_case(True)


def funnel_case(pool_keys):
    import torch
    from transformers import FunnelConfig
    from transformers.models.funnel.modeling_funnel import FunnelAttentionStructure, FunnelRelMultiheadAttention

    config = FunnelConfig(block_sizes=[1, 1], d_model=24, n_head=3, d_head=8, separate_cls=False, truncate_seq=False,
                          pool_q_only=not pool_keys, hidden_dropout=0.0, attention_dropout=0.0)  # fmt: skip
    module = randomised(FunnelRelMultiheadAttention(config, 1))
    with torch.no_grad():
        module.r_kernel.zero_()  # without their relative positions
    structure = FunnelAttentionStructure(config)
    x = leaf(2, 22, 24)
    pooled, inputs = structure.pre_attention_pooling(x, structure.init_attention_inputs(x))
    source = pooled if pool_keys else x
    theirs = module(pooled, source, source, inputs)[0].repeat_interleave(2, 1)

    def ours():
        q = heads(module.q_head(x), 3) + module.r_w_bias.unsqueeze(1)
        k, v = heads(module.k_head(x), 3), heads(module.v_head(x), 3)
        y = attention("funnel", {"stride": 2, "pool_keys": pool_keys}, query=q, key=k, value=v)
        return module.layer_norm(pooled.repeat_interleave(2, 1) + module.post_proj(merged(y)))

    own = [p for name, p in module.named_parameters() if name not in ("r_r_bias", "r_kernel", "r_s_bias", "seg_embed")]
    return theirs, ours, [x, *own]


@compare("funnel", "bidirectional", "transformers", "FunnelRelMultiheadAttention after its pooling",
         "without relative positions; each pooled output repeated")  # fmt: skip
def funnel_pooled():
    return funnel_case(True)


@compare("funnel", "bidirectional, queries pooled only", "transformers",
         "FunnelRelMultiheadAttention after its pooling", "the same")  # fmt: skip
def funnel_queries():
    return funnel_case(False)

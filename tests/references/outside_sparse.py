"""Comparisons of the sparse family with published implementations. See outside.py."""

from outside import attention, compare, heads, leaf, merged, randomised


def local(causal, options, **arguments):
    from local_attention import LocalAttention

    module = LocalAttention(window_size=8, causal=causal, look_backward=1, exact_windowsize=True,
                            use_rotary_pos_emb=False)  # fmt: skip
    query, key, value = leaf(2, 3, 40, 8), leaf(2, 3, 40, 8), leaf(2, 3, 40, 8)
    theirs = module(query, key, value, **arguments)
    padding = {} if "mask" not in arguments else {"key_padding": arguments["mask"]}

    def ours():
        return attention("sliding_window", options, query=query, key=key, value=value, causal=causal, **padding)

    return theirs, ours, [query, key, value]


@compare("sliding_window", "causal", "local-attention", "LocalAttention, exact_windowsize",
         "its `window_size` w keeps w + 1 keys: compared with our window w + 1")  # fmt: skip
def sliding_window_local():
    return local(True, {"window": 9})


@compare("sliding_window", "bidirectional, padding", "local-attention", "LocalAttention, exact_windowsize",
         "w before and w after: our window 2 w + 1")  # fmt: skip
def sliding_window_local_bidirectional():
    import torch

    real = torch.ones(2, 40, dtype=torch.bool)
    real[1, 35:] = False  # every query still sees a real key; theirs gives the others a mean, ours zeros
    return local(False, {"window": 17}, mask=real)


@compare("sliding_window", "causal, grouped heads", "transformers", "MistralAttention with its sliding mask",
         "without rotary positions")  # fmt: skip
def sliding_window_mistral():
    import torch
    from transformers import MistralConfig
    from transformers.masking_utils import sliding_window_causal_mask_function
    from transformers.models.mistral.modeling_mistral import MistralAttention

    config = MistralConfig(hidden_size=24, num_attention_heads=4, num_key_value_heads=2, head_dim=6, sliding_window=7)
    config._attn_implementation = "eager"
    module = randomised(MistralAttention(config, 0))
    x = leaf(2, 30, 24)
    position = torch.arange(30)
    visible = sliding_window_causal_mask_function(7)(0, 0, position[:, None], position[None, :])
    mask = torch.zeros(1, 1, 30, 30, dtype=torch.float64).masked_fill(~visible, -1e300)
    no_turn = torch.ones(1, 30, 6, dtype=torch.float64), torch.zeros(1, 30, 6, dtype=torch.float64)

    def ours():
        q, k, v = heads(module.q_proj(x), 4), heads(module.k_proj(x), 2), heads(module.v_proj(x), 2)
        return module.o_proj(merged(attention("sliding_window", {"window": 7}, query=q, key=k, value=v, causal=True)))

    return module(x, no_turn, mask)[0], ours, [x, *module.parameters()]


@compare("sliding_window", "bidirectional", "transformers", "LongformerSelfAttention",
         "its even window w keeps w + 1 keys: our window w + 1")  # fmt: skip
def sliding_window_longformer():
    import torch
    from transformers import LongformerConfig
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    module = randomised(LongformerSelfAttention(LongformerConfig(
        hidden_size=24, num_attention_heads=3, attention_window=[8], attention_probs_dropout_prob=0.0), 0))  # fmt: skip
    x = leaf(2, 32, 24)
    nothing = torch.zeros(2, 32, dtype=torch.bool)
    theirs = module(x, attention_mask=torch.zeros(2, 32, dtype=torch.float64), is_index_masked=nothing,
                    is_index_global_attn=nothing, is_global_attn=False)[0]  # fmt: skip

    def ours():
        q, k, v = (heads(part(x), 3) for part in (module.query, module.key, module.value))
        return merged(attention("sliding_window", {"window": 9}, query=q, key=k, value=v))

    local = [parameter for name, parameter in module.named_parameters() if "global" not in name]
    return theirs, ours, [x, *local]

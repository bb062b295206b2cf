"""Comparisons of the sparse family with published implementations. See outside.py."""

from outside import attention, compare, heads, leaf, merged, randomised
from outside_full import x_transformers


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


@compare("longformer", "bidirectional, two global positions", "transformers", "LongformerSelfAttention",
         "one set of projections for local and global attention; its even window w: our window w + 1")  # fmt: skip
def longformer_transformers():
    import torch
    from transformers import LongformerConfig
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    module = randomised(LongformerSelfAttention(LongformerConfig(
        hidden_size=24, num_attention_heads=3, attention_window=[8], attention_probs_dropout_prob=0.0), 0))  # fmt: skip
    for part in ("query", "key", "value"):
        setattr(module, f"{part}_global", getattr(module, part))
    x = leaf(2, 32, 24)
    is_global = torch.arange(32).lt(2).expand(2, -1)
    theirs = module(x, attention_mask=is_global * 10000.0, is_index_masked=torch.zeros(2, 32, dtype=torch.bool),
                    is_index_global_attn=is_global, is_global_attn=True)[0]  # fmt: skip

    def ours():
        q, k, v = (heads(part(x), 3) for part in (module.query, module.key, module.value))
        return merged(attention("longformer", {"window": 9, "global_positions": 2}, query=q, key=k, value=v))

    return theirs, ours, [x, *module.parameters()]


@compare("top_k", "causal", "x-transformers", "Attention, sparse_topk")
def top_k_causal():
    return x_transformers("top_k", {"k": 5}, causal=True, sparse_topk=5)


@compare("top_k", "bidirectional", "x-transformers", "Attention, sparse_topk")
def top_k_bidirectional():
    return x_transformers("top_k", {"k": 5}, sparse_topk=5)


@compare("block_sparse", "bidirectional, the layout that theirs drew", "transformers", "BigBirdBlockSparseAttention",
         "one head, as every head of theirs draws its own random blocks")  # fmt: skip
def block_sparse_bigbird():
    import torch
    from transformers import BigBirdConfig, BigBirdModel
    from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

    block, blocks = 4, 10
    module = randomised(BigBirdBlockSparseAttention(BigBirdConfig(
        hidden_size=8, num_attention_heads=1, num_random_blocks=2, block_size=block, max_position_embeddings=40,
        attention_probs_dropout_prob=0.0), seed=3)).train()  # fmt: skip
    drawn = []
    draw = module._bigbird_block_rand_mask_with_head
    module._bigbird_block_rand_mask_with_head = lambda **sizes: drawn.append(draw(**sizes)) or drawn[-1]
    x = leaf(2, block * blocks, 8)
    real = torch.ones(2, block * blocks, dtype=torch.float64)
    blocked, band, to_rows, to_columns = BigBirdModel.create_masks_for_block_sparse_attn(real, block)
    theirs = module(x, band, to_rows, to_columns, blocked, blocked)[0]

    reads = torch.zeros(blocks, blocks, dtype=torch.bool)
    reads[0] = reads[-1] = reads[:, 0] = reads[:, -1] = True
    for row in range(1, blocks - 1):
        reads[row, row - 1:row + 2] = True
        reads[row, drawn[0][0][row - 1].tolist()] = True
    layout = "/".join("".join("01"[cell] for cell in row) for row in reads.int().tolist())
    # Five blocks and two drawn ones a row; beside the edges the window holds a global block.
    assert layout.count("0") == (blocks - 2) * (blocks - 7) + 2, layout

    def ours():
        q, k, v = (heads(part(x), 1) for part in (module.query, module.key, module.value))
        return merged(attention("block_sparse", {"layout": layout, "block": block}, query=q, key=k, value=v))

    return theirs, ours, [x, *module.parameters()]


@compare("sinkhorn", "bidirectional", "sinkhorn-transformer", "sinkhorn_sorting_operator and reorder_buckets",
         "its SinkhornAttention takes the sorted keys for values as well; its two functions with values of their own "
         "and without noise")  # fmt: skip
def sinkhorn_lucidrains():
    import torch
    from sinkhorn_transformer import sinkhorn_transformer as theirs

    block, blocks, H, D = 6, 5, 3, 8
    query, key, value = leaf(2, H, block * blocks, D), leaf(2, H, block * blocks, D), leaf(2, H, block * blocks, 4)
    weight = leaf(H, D, blocks)
    b_q, b_k, b_v = (theirs.bucket(blocks, x.flatten(0, 1)) for x in (query, key, value))
    logits = b_k.sum(2) @ theirs.expand_batch_and_merge_head(2, weight.unsqueeze(0)) / block
    order = theirs.sinkhorn_sorting_operator(logits / 0.75, n_iters=8)
    b_k, b_v = (torch.cat([theirs.reorder_buckets(x, order), x], 2) for x in (b_k, b_v))
    weights = torch.softmax(torch.einsum("buie,buje->buij", b_q, b_k) / D**0.5, -1)
    output = theirs.unbucket(torch.einsum("buij,buje->buie", weights, b_v)).unflatten(0, (2, H))

    def ours():
        return attention("sinkhorn", {"block": block, "iterations": 8, "temperature": 0.75}, query=query, key=key,
                         value=value, parameters={"sort_weight": weight})  # fmt: skip

    return output, ours, [query, key, value, weight]


@compare("lsh", "causal, one bucket", "transformers", "LSHSelfAttention, a chunk for all positions",
         "shared keys at unit norm, the position itself last; its logits are not divided by the root of the head's "
         "width: projection rescaled; its chunks mix buckets, so that several are not comparable; its norm adds 1e-6",
         1e-5)  # fmt: skip
def lsh_reformer():
    from transformers import ReformerConfig
    from transformers.models.reformer.modeling_reformer import LSHSelfAttention

    H, D, M, T = 3, 8, 24, 21
    module = randomised(LSHSelfAttention(ReformerConfig(
        hidden_size=M, num_attention_heads=H, attention_head_size=D, is_decoder=True, lsh_attn_chunk_length=32,
        lsh_attention_probs_dropout_prob=0.0, attn_layers=["lsh"])))  # fmt: skip
    x = leaf(2, T, M)

    def ours():
        import torch

        weights = {"shared.weight": module.query_key.weight * D**0.5, "value.weight": module.value.weight,
                   "output.weight": torch.eye(H * D, dtype=torch.float64)}  # fmt: skip
        y = attention("lsh", {"buckets": 1, "rounds": 1, "window": T}, hidden=x.unsqueeze(1), parameters=weights,
                      causal=True, num_heads=H, num_kv_heads=H, head_dim=D, value_dim=D)  # fmt: skip
        return y.squeeze(1)

    return module(x).hidden_states, ours, [x, *module.parameters()]


@compare("bigbird", "bidirectional", "transformers", "BigBirdBlockSparseAttention",
         "theirs was given the random blocks that ours drew")  # fmt: skip
def bigbird_transformers():
    import torch
    from transformers import BigBirdConfig, BigBirdModel
    from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

    block, blocks, H, D, drawn = 4, 12, 3, 8, 3
    length = block * blocks
    options = {"block": block, "random_blocks": drawn}
    # Values that name their block show which blocks a query reads.
    nothing = torch.zeros(1, 1, length, D, dtype=torch.float64)
    names = torch.eye(blocks, dtype=torch.float64).repeat_interleave(block, 0).view(1, 1, length, blocks)
    read = attention("bigbird", options, query=nothing, key=nothing, value=names)[0, 0, ::block] > 0
    random = [[column for column in range(1, blocks - 1) if read[row, column] and abs(row - column) > 1]
              for row in range(1, blocks - 1)]  # fmt: skip
    assert all(len(row) == drawn for row in random), random

    module = randomised(BigBirdBlockSparseAttention(BigBirdConfig(
        hidden_size=H * D, num_attention_heads=H, num_random_blocks=drawn, block_size=block,
        max_position_embeddings=length, attention_probs_dropout_prob=0.0)))  # fmt: skip
    module._bigbird_block_rand_mask_with_head = lambda **sizes: [random] * H
    x = leaf(2, length, H * D)
    masks = BigBirdModel.create_masks_for_block_sparse_attn(torch.ones(2, length, dtype=torch.float64), block)
    blocked, band, to_rows, to_columns = masks

    def ours():
        q, k, v = (heads(part(x), H) for part in (module.query, module.key, module.value))
        return merged(attention("bigbird", options, query=q, key=k, value=v))

    return module(x, band, to_rows, to_columns, blocked, blocked)[0], ours, [x, *module.parameters()]

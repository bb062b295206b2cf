"""Comparisons of the linear family with published implementations. See outside.py."""

from outside import attention, compare, heads, leaf, merged, randomised


def elu_features(causal):
    import torch
    from performer_pytorch import performer_pytorch

    query, key, value = leaf(2, 3, 37, 8), leaf(2, 3, 37, 8), leaf(2, 3, 37, 5)
    q, k = torch.nn.functional.elu(query) + 1, torch.nn.functional.elu(key) + 1
    if causal:  # chunk_size is the number of chunks there
        theirs = performer_pytorch.causal_linear_attention_noncuda(q, k, value, chunk_size=5)
    else:
        theirs = performer_pytorch.linear_attention(q, k, value)
    return theirs, lambda: attention("linear", query=query, key=key, value=value, causal=causal), [query, key, value]


# Ours adds 1e-6 to the normaliser, theirs adds it to each of its terms or not at all; the normaliser is at least 1.
LINEAR_TOLERANCE = 1e-5


@compare("linear", "bidirectional", "performer-pytorch", "linear_attention, with elu + 1 features",
         "theirs lacks the 1e-6 in the normaliser", LINEAR_TOLERANCE)  # fmt: skip
def linear_performer_pytorch():
    return elu_features(False)


@compare("linear", "causal", "performer-pytorch", "causal_linear_attention_noncuda, with elu + 1 features",
         "theirs adds 1e-6 to each term of the normaliser", LINEAR_TOLERANCE)  # fmt: skip
def linear_performer_pytorch_causal():
    return elu_features(True)


def performer_case(causal):
    import torch
    from performer_pytorch import performer_pytorch

    query, key, value = leaf(2, 3, 37, 8), leaf(2, 3, 37, 8), leaf(2, 3, 37, 8)
    projection = performer_pytorch.gaussian_orthogonal_random_matrix(16, 8).double()
    q, k = (performer_pytorch.softmax_kernel(x, projection_matrix=projection, is_query=x is query, eps=0.0)
            for x in (query, key))  # fmt: skip
    if causal:
        theirs = performer_pytorch.causal_linear_attention_noncuda(q, k, value, chunk_size=5, eps=0.0)
    else:
        theirs = performer_pytorch.linear_attention(q, k, value)

    def ours():
        return attention("performer", {"num_features": 16}, query=query, key=key, value=value, causal=causal,
                         buffers={"projection": projection})  # fmt: skip

    return theirs, ours, [query, key, value]


@compare("performer", "bidirectional", "performer-pytorch", "softmax_kernel and linear_attention",
         "its 1e-4 beside the features set to 0")  # fmt: skip
def performer_bidirectional():
    return performer_case(False)


@compare("performer", "causal", "performer-pytorch", "softmax_kernel and causal_linear_attention_noncuda",
         "its 1e-4 and 1e-6 set to 0; what it subtracts, the largest exponent of all keys, cancels then")  # fmt: skip
def performer_causal():
    return performer_case(True)


def delta_case(gated):
    import torch
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule

    query, key, value = leaf(2, 3, 29, 8), leaf(2, 3, 29, 8), leaf(2, 3, 29, 5)
    beta, decay, log_rate, step_bias = leaf(2, 3, 29, 1), leaf(2, 3, 29, 1), leaf(3), leaf(3)
    log_decay = -log_rate.exp().view(3, 1) * torch.nn.functional.softplus(decay.squeeze(-1) + step_bias.view(3, 1))
    per_position = [x.transpose(1, 2) for x in
                    (query, key, value, log_decay if gated else 0 * log_decay, beta.squeeze(-1).sigmoid())]  # fmt: skip
    theirs, _ = torch_recurrent_gated_delta_rule(*per_position, use_qk_l2norm_in_kernel=True)

    def ours():
        gates = {"beta": beta} | ({"decay": decay} if gated else {})
        weights = {"log_rate": log_rate, "step_bias": step_bias} if gated else {}
        y = attention("gated_delta" if gated else "delta", query=query, key=key, value=value, causal=True, gates=gates,
                      parameters=weights)  # fmt: skip
        return y.transpose(1, 2) / 8**0.5  # theirs divides queries

    return theirs, ours, [query, key, value, beta] + ([decay, log_rate, step_bias] if gated else [])


@compare("delta", "causal", "transformers", "torch_recurrent_gated_delta_rule (Qwen3-Next), without decay")
def delta_qwen3_next():
    return delta_case(False)


@compare("gated_delta", "causal", "transformers", "torch_recurrent_gated_delta_rule (Qwen3-Next)")
def gated_delta_qwen3_next():
    return delta_case(True)


@compare("gated_delta_net", "causal", "transformers", "Qwen3NextGatedDeltaNet",
         "rows of its projections are by head, ours by kind: reordered")  # fmt: skip
def gated_delta_net_qwen3_next():
    import torch
    from transformers import Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

    H, D, E, M = 3, 8, 16, 24
    module = randomised(Qwen3NextGatedDeltaNet(Qwen3NextConfig(
        hidden_size=M, linear_num_value_heads=H, linear_num_key_heads=H, linear_key_head_dim=D,
        linear_value_head_dim=E, linear_conv_kernel_dim=4, num_hidden_layers=1,
        layer_types=["linear_attention"]), 0))  # fmt: skip
    x = leaf(2, 29, M)

    def ours():
        kinds = module.in_proj_qkvz.weight.unflatten(0, (H, 2 * D + 2 * E)).split([D, D, E, E], 1)
        gates = module.in_proj_ba.weight.unflatten(0, (H, 2)).split([1, 1], 1)
        weights = {"in.weight": torch.cat([part.flatten(0, 1) for part in (*kinds, *gates)]),
                   "convolution.weight": module.conv1d.weight.squeeze(1), "log_rate": module.A_log,
                   "step_bias": module.dt_bias, "norm": module.norm.weight,
                   "out.weight": module.out_proj.weight}  # fmt: skip
        y = attention("gated_delta_net", {"value_expansion": 2}, hidden=x.unsqueeze(1), parameters=weights, causal=True,
                      num_heads=H, num_kv_heads=H, head_dim=D, value_dim=D)  # fmt: skip
        return y.squeeze(1)

    return module(x), ours, [x, *module.parameters()]


@compare("mamba2", "causal", "transformers", "Mamba2Mixer, one group")
def mamba2_transformers():
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    H, M = 4, 24
    module = randomised(Mamba2Mixer(Mamba2Config(
        hidden_size=M, expand=2, num_heads=H, head_dim=12, state_size=10, n_groups=1, conv_kernel=4, chunk_size=8,
        num_hidden_layers=1), 0))  # fmt: skip
    x = leaf(2, 29, M)

    def ours():
        weights = {"in.weight": module.in_proj.weight, "convolution.weight": module.conv1d.weight.squeeze(1),
                   "convolution.bias": module.conv1d.bias, "log_rate": module.A_log, "step_bias": module.dt_bias,
                   "skip": module.D, "norm": module.norm.weight, "out.weight": module.out_proj.weight}  # fmt: skip
        y = attention("mamba2", {"expand": 2, "state_dim": 10, "convolution_width": 4}, hidden=x.unsqueeze(1),
                      parameters=weights, causal=True, num_heads=H, num_kv_heads=H, head_dim=6,
                      value_dim=6)  # fmt: skip
        return y.squeeze(1)

    return module(x), ours, [x, *module.parameters()]


@compare("lightning", "causal", "transformers", "MiniMaxLightningAttention")
def lightning_minimax():
    import torch
    from transformers import MiniMaxConfig
    from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention

    H, D, M = 3, 8, 24
    module = MiniMaxLightningAttention(MiniMaxConfig(
        hidden_size=M, num_attention_heads=H, head_dim=D, block_size=16, num_hidden_layers=4, hidden_act="silu",
        layer_types=["linear_attention"] * 4), 1)  # fmt: skip
    torch.set_default_dtype(torch.float64)  # its slopes are powers of a whole-number tensor, in the default type
    slope = module.get_slope_rate()
    torch.set_default_dtype(torch.float32)
    module = randomised(module)
    module.slope_rate = slope
    module.query_decay, module.key_decay, module.diagonal_decay = module.decay_factors(slope)
    x = leaf(2, 37, M)

    def ours():
        q, k, v = (part.transpose(1, 2) for part in module.qkv_proj(x).unflatten(-1, (H, 3 * D)).split(D, 3))
        y = attention("lightning", query=q, key=k, value=v, gates={"output": heads(module.output_gate(x), H)},
                      parameters={"weight": module.norm.weight}, causal=True, layer=1, depth=4)  # fmt: skip
        return module.out_proj(merged(y))

    return module(x, None, None)[0], ours, [x, *module.parameters()]


@compare("relu", "bidirectional", "performer-pytorch", "generalized_kernel and linear_attention, without projection",
         "theirs lacks the 1e-6 in the normaliser", LINEAR_TOLERANCE)  # fmt: skip
def relu_performer_pytorch():
    from performer_pytorch import performer_pytorch

    query, key, value = leaf(2, 3, 37, 8), leaf(2, 3, 37, 8), leaf(2, 3, 37, 8)
    q, k = (performer_pytorch.generalized_kernel(x, projection_matrix=None, normalize_data=False) for x in (query, key))
    theirs = performer_pytorch.linear_attention(q, k, value)
    return theirs, lambda: attention("relu", query=query, key=key, value=value), [query, key, value]

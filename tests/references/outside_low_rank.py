"""Comparisons of the low-rank family with published implementations. See outside.py."""

from outside import attention, compare, heads, leaf, merged, randomised


def linformer_case(one_kv_head, length):
    from linformer import LinformerSelfAttention

    module = randomised(LinformerSelfAttention(24, 40, k=10, heads=3, one_kv_head=one_kv_head))
    x = leaf(2, length, 24)

    def ours():
        groups = 1 if one_kv_head else 3
        q, k, v = heads(module.to_q(x), 3), heads(module.to_k(x), groups), heads(module.to_v(x), groups)
        projections = {"key_projection": module.proj_k.T, "value_projection": module.proj_v.T}
        y = attention("linformer", {"projected_length": 10}, query=q, key=k, value=v, context=40,
                      parameters=projections)  # fmt: skip
        return module.to_out(merged(y))

    return module(x), ours, [x, *module.parameters()]


@compare("linformer", "bidirectional", "linformer", "LinformerSelfAttention")
def linformer_lucidrains():
    return linformer_case(False, 40)


@compare("linformer", "bidirectional, shorter, one key-value head", "linformer", "LinformerSelfAttention")
def linformer_lucidrains_shorter():
    return linformer_case(True, 31)


@compare("nystrom", "bidirectional", "nystrom-attention", "NystromAttention",
         "one row and one head, as theirs starts its pseudo-inverse from a maximum over the batch and heads; "
         "without its convolution")  # fmt: skip
def nystrom_lucidrains():
    from nystrom_attention import NystromAttention

    module = randomised(NystromAttention(24, dim_head=8, heads=1, num_landmarks=16, residual=False))
    x = leaf(1, 64, 24)

    def ours():
        q, k, v = (heads(part, 1) for part in module.to_qkv(x).chunk(3, -1))
        return module.to_out(merged(attention("nystrom", {"landmarks": 16}, query=q, key=k, value=v)))

    return module(x), ours, [x, *module.parameters()]


@compare("nystrom", "bidirectional", "transformers", "NystromformerSelfAttention",
         "one row and one head, as theirs starts its pseudo-inverse from a maximum over the batch and heads; "
         "without its convolution")  # fmt: skip
def nystrom_transformers():
    from transformers import NystromformerConfig
    from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

    module = randomised(NystromformerSelfAttention(NystromformerConfig(
        hidden_size=8, num_attention_heads=1, attention_probs_dropout_prob=0.0, num_landmarks=8,
        segment_means_seq_len=48)))  # fmt: skip
    del module.conv
    module.conv_kernel_size = None
    x = leaf(1, 48, 8)

    def ours():
        q, k, v = (heads(part(x), 1) for part in (module.query, module.key, module.value))
        return merged(attention("nystrom", {"landmarks": 8}, query=q, key=k, value=v))

    return module(x)[0], ours, [x, *module.parameters()]


@compare("latent_bottleneck", "bidirectional, padding", "transformers",
         "PerceiverLayer for reading, PerceiverLayer among latents, PerceiverAttention for being read",
         "projections without biases, as ours; the norm of the sequence is the model's in ours")  # fmt: skip
def latent_bottleneck_perceiver():
    import torch
    from transformers import PerceiverConfig
    from transformers.models.perceiver.modeling_perceiver import PerceiverAttention, PerceiverLayer

    config = PerceiverConfig(attention_probs_dropout_prob=0.0, hidden_act="gelu")
    sizes = {"qk_channels": 12, "v_channels": 18, "num_heads": 3, "q_dim": 20, "kv_dim": 20}
    modules = torch.nn.ModuleDict({
        "attention0": PerceiverLayer(config, is_cross_attention=True, widening_factor=1, **sizes),
        "attention1": PerceiverLayer(config, widening_factor=1, **sizes),
        "read": PerceiverAttention(config, is_cross_attention=True, use_query_residual=False, **sizes),
    })  # fmt: skip
    # Their self-attention ends at v_channels and cannot add its input then.
    modules["attention1"].attention.output.dense = torch.nn.Linear(18, 20)
    randomised(modules)
    with torch.no_grad():
        for name, parameter in modules.named_parameters():
            if name.endswith("bias") and any(part in name for part in (".query.", ".key.", ".value.", ".dense.")):
                parameter.zero_()
    x, start = leaf(2, 23, 20), leaf(5, 20)
    real = torch.ones(2, 23, dtype=torch.bool)
    real[1, 14:] = False
    mask = torch.zeros(2, 1, 1, 23, dtype=torch.float64).masked_fill(~real[:, None, None], -1e300)
    # Both readers see the sequence through one norm, which in our model stands before the mixer.
    norm, read = modules["attention0"].attention.self.layernorm2, modules["read"].self
    read.layernorm1 = norm
    latents = modules["attention0"](start.expand(2, -1, -1), inputs=x, inputs_mask=mask)[0]
    latents = modules["attention1"](latents)[0]
    theirs = modules["read"](x, inputs=latents)[0]

    def ours():
        weights = {"start": start, "final_norm.weight": read.layernorm2.weight, "final_norm.bias": read.layernorm2.bias}
        for name, module in modules.items():
            of = module if name == "read" else module.attention
            weights |= {f"{name}.{part}.weight": getattr(of.self, part).weight for part in ("query", "key", "value")}
            weights[f"{name}.output.weight"] = of.output.dense.weight
        for layer in (0, 1):
            module = modules[f"attention{layer}"]
            for kind in ("weight", "bias"):
                weights[f"norm{layer}.{kind}"] = getattr(module.attention.self.layernorm1, kind)
                weights[f"feed_forward{layer}.norm.{kind}"] = getattr(module.layernorm, kind)
                weights[f"feed_forward{layer}.up.{kind}"] = getattr(module.mlp.dense1, kind)
                weights[f"feed_forward{layer}.down.{kind}"] = getattr(module.mlp.dense2, kind)
        y = attention("latent_bottleneck", {"latents": 5, "latent_layers": 1}, hidden=norm(x).unsqueeze(1),
                      parameters=weights, key_padding=real, num_heads=3, num_kv_heads=3, head_dim=4,
                      value_dim=6)  # fmt: skip
        return y.squeeze(1)

    biases = {".query.bias", ".key.bias", ".value.bias", ".dense.bias"}
    own = [p for name, p in modules.named_parameters() if not any(name.endswith(bias) for bias in biases)]
    return theirs, ours, [x, start, *own]

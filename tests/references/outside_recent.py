"""Comparisons of latent and differential attention and of softmax's options with published implementations.
See outside.py."""

from outside import attention, compare, heads, leaf, merged, randomised


def causal_bias(positions):
    """Additive, as transformers' eager attention takes it."""
    import torch

    return torch.full((1, 1, positions, positions), float("-inf"), dtype=torch.float64).triu(1)


def no_rotation(positions, width):
    import torch

    return torch.ones(1, positions, width, dtype=torch.float64), torch.zeros(1, positions, width, dtype=torch.float64)


def rotation(positions, width, base):
    """Cosines and sines of both halves, [1, T, width] each."""
    import torch

    frequencies = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies).repeat(1, 2).unsqueeze(0)
    return angles.cos(), angles.sin()


def projected(module, x, query_heads, key_heads):
    return heads(module.q_proj(x), query_heads), heads(module.k_proj(x), key_heads), heads(module.v_proj(x), key_heads)


def configured(config, **settings):
    result = config(**settings)
    result._attn_implementation = "eager"
    return result


def latent_case(query_rank, absorb):
    import torch
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3Config

    stream, count, plain, rotary, value, rank, positions = 24, 3, 6, 4, 5, 10, 19
    module = randomised(DeepseekV3Attention(configured(
        DeepseekV3Config, hidden_size=stream, num_attention_heads=count, num_key_value_heads=count,
        q_lora_rank=query_rank or None, kv_lora_rank=rank, qk_nope_head_dim=plain, qk_rope_head_dim=rotary,
        v_head_dim=value, attention_bias=False), 0))  # fmt: skip
    x = leaf(2, positions, stream)
    theirs, _ = module(x, rotation(positions, rotary, 10000.0), causal_bias(positions))

    def ours():
        # They pair neighbouring rotary numbers, we pair halves.
        pairs = torch.cat([torch.arange(0, rotary, 2), torch.arange(1, rotary, 2)])
        query_up = (module.q_b_proj if query_rank else module.q_proj).weight.unflatten(0, (count, plain + rotary))
        down, up = module.kv_a_proj_with_mqa.weight, module.kv_b_proj.weight.unflatten(0, (count, plain + value))
        parameters = {
            "query_up.weight": torch.cat([query_up[:, :plain], query_up[:, plain:][:, pairs]], 1).flatten(0, 1),
            "key_value_down.weight": torch.cat([down[:rank], down[rank:][pairs]]),
            "key_value_scale": module.kv_a_layernorm.weight,
            "key_up.weight": up[:, :plain].flatten(0, 1),
            "value_up.weight": up[:, plain:].flatten(0, 1),
            "output.weight": module.o_proj.weight,
        }
        if query_rank:
            parameters |= {"query_down.weight": module.q_a_proj.weight, "query_scale": module.q_a_layernorm.weight}
        options = {"kv_rank": rank, "rotary_dim": rotary, "query_rank": query_rank, "absorb": absorb}
        return attention("latent", options, hidden=x.unsqueeze(1), parameters=parameters, causal=True,
                         num_heads=count, num_kv_heads=count, head_dim=plain, value_dim=value).squeeze(1)  # fmt: skip

    return theirs, ours, [x, *module.parameters()]


@compare("latent", "causal, compressed queries", "transformers", "DeepseekV3Attention")
def latent_deepseek():
    return latent_case(7, False)


@compare("latent", "causal, absorbed", "transformers", "DeepseekV3Attention")
def latent_deepseek_absorbed():
    return latent_case(0, True)


@compare("differential", "causal, grouped heads", "transformers", "DiffLlamaAttention",
         note="its norm has no scale; ours at one")  # fmt: skip
def differential_diffllama():
    import torch
    from transformers.models.diffllama.modeling_diffllama import DiffLlamaAttention, DiffLlamaConfig

    count, groups, half, positions, layer = 8, 4, 4, 17, 3
    module = randomised(DiffLlamaAttention(configured(
        DiffLlamaConfig, hidden_size=32, num_attention_heads=count, num_key_value_heads=groups, head_dim=half,
        num_hidden_layers=6, rms_norm_eps=1e-5), layer))  # fmt: skip
    x = leaf(2, positions, 32)
    theirs, _ = module(x, no_rotation(positions, half), causal_bias(positions))

    def ours():
        # Their heads i and i + count / 2 are the halves of our head i.
        query, key, value = (torch.cat(z.chunk(2, 1), 3) for z in projected(module, x, count, groups))
        parameters = {"lambda_query1": module.lambda_q1, "lambda_key1": module.lambda_k1,
                      "lambda_query2": module.lambda_q2, "lambda_key2": module.lambda_k2}  # fmt: skip
        scale = torch.ones(2 * half, dtype=torch.float64)
        return module.o_proj(merged(attention("differential", query=query, key=key, value=value, causal=True,
                                              parameters=parameters, buffers={"norm_scale": scale}, layer=layer,
                                              depth=6)))  # fmt: skip

    return theirs, ours, [x, *module.parameters()]


@compare("softmax", "causal, sinks", "transformers", "GptOssAttention")
def softmax_sinks_gpt_oss():
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssAttention, GptOssConfig

    count, groups, width, positions = 6, 2, 4, 17
    module = randomised(GptOssAttention(configured(
        GptOssConfig, hidden_size=24, num_attention_heads=count, num_key_value_heads=groups, head_dim=width,
        num_hidden_layers=2, layer_types=["full_attention"] * 2), 0))  # fmt: skip
    x = leaf(2, positions, 24)
    theirs, _ = module(x, no_rotation(positions, width // 2), causal_bias(positions))

    def ours():
        query, key, value = projected(module, x, count, groups)
        return module.o_proj(merged(attention("softmax", {"sinks": True}, query=query, key=key, value=value,
                                              parameters={"sinks": module.sinks}, causal=True)))  # fmt: skip

    return theirs, ours, [x, *module.parameters()]


@compare("softmax", "causal, logit cap", "transformers", "Gemma2Attention")
def softmax_cap_gemma2():
    from transformers.models.gemma2.modeling_gemma2 import Gemma2Attention, Gemma2Config

    count, groups, width, positions = 6, 2, 4, 17
    module = randomised(Gemma2Attention(configured(
        Gemma2Config, hidden_size=24, num_attention_heads=count, num_key_value_heads=groups, head_dim=width,
        query_pre_attn_scalar=width, attn_logit_softcapping=1.5, num_hidden_layers=2,
        layer_types=["full_attention"] * 2), 0))  # fmt: skip
    x = leaf(2, positions, 24)
    theirs, _ = module(x, no_rotation(positions, width), causal_bias(positions))

    def ours():
        query, key, value = projected(module, x, count, groups)
        options = {"logit_cap": 1.5}
        return module.o_proj(merged(attention("softmax", options, query=query, key=key, value=value, causal=True)))

    return theirs, ours, [x, *module.parameters()]


@compare("softmax", "causal, QK-norm, output gate", "transformers", "Qwen3NextAttention",
         note="its norms scale each number; compared at one scale for all")  # fmt: skip
def softmax_gate_qwen3_next():
    import torch
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextAttention, Qwen3NextConfig

    count, groups, width, positions = 6, 2, 4, 17
    module = randomised(Qwen3NextAttention(configured(
        Qwen3NextConfig, hidden_size=24, num_attention_heads=count, num_key_value_heads=groups, head_dim=width,
        rms_norm_eps=1e-6, num_hidden_layers=4), 3))  # fmt: skip
    query_scale, key_scale = torch.tensor(1.4, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    with torch.no_grad():
        module.q_norm.weight.fill_(query_scale - 1)
        module.k_norm.weight.fill_(key_scale - 1)
    x = leaf(2, positions, 24)
    theirs, _ = module(x, no_rotation(positions, width), causal_bias(positions))

    def ours():
        query, gate = heads(module.q_proj(x), count).chunk(2, -1)
        key, value = heads(module.k_proj(x), groups), heads(module.v_proj(x), groups)
        buffers = {"query_scale": query_scale.expand(count), "key_scale": key_scale.expand(groups)}
        return module.o_proj(merged(attention("softmax", {"qk_norm": True, "output_gate": True}, query=query, key=key,
                                              value=value, gates={"output": gate}, buffers=buffers,
                                              causal=True)))  # fmt: skip

    projections = (module.q_proj, module.k_proj, module.v_proj, module.o_proj)
    return theirs, ours, [x, *(parameter for layer in projections for parameter in layer.parameters())]

"""Comparisons of the linear family with published implementations. See outside.py."""

from outside import attention, compare, leaf


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

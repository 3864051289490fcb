from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from tests.embedding import with_bf16
from workers.embed.attention import attention

pytestmark = with_bf16


def module(*, is_causal: bool = False, groups: int = 1) -> nn.Module:
    made = nn.Identity()
    made.is_causal, made.num_key_value_groups = is_causal, groups
    return made


@pytest.mark.parametrize(
    ("batch", "heads", "queries", "keys", "width"),
    [(1, 1, 5, 5, 16), (3, 6, 197, 197, 64), (1, 2, 1025, 1025, 64), (2, 3, 7, 40, 24)],
)
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_it_is_the_attention_of_torch(
    batch: int, heads: int, queries: int, keys: int, width: int, scaling: float | None
) -> None:
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(batch, tokens, heads, width, dtype=torch.bfloat16).transpose(1, 2)
        for tokens in (queries, keys, keys)
    )
    with torch.inference_mode():
        mixed, weights = attention(module(), query, key, value, None, scaling)
    exact = scaled_dot_product_attention(query.float(), key.float(), value.float(), scale=scaling)
    assert weights is None
    assert mixed.is_contiguous()
    assert mixed.shape == (batch, queries, heads, width)
    assert torch.cosine_similarity(mixed.float(), exact.transpose(1, 2), dim=-1).min() >= 0.999


def test_tokens_that_are_masked_are_left_out() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 9, 16, dtype=torch.bfloat16) for _ in range(3))
    mask = (torch.arange(9) < 5).expand(2, 1, 9, 9)
    masked, _ = attention(module(), query, key, value, mask)
    short, _ = attention(module(), query, key[:, :, :5], value[:, :, :5], None)
    torch.testing.assert_close(masked, short, rtol=0.05, atol=0.02)


def test_a_token_of_a_causal_layer_sees_those_before_it_only() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 9, 16, dtype=torch.bfloat16) for _ in range(3))
    whole, _ = attention(module(is_causal=True), query, key, value, None)
    short, _ = attention(module(), query[:, :, 4:5], key[:, :, :5], value[:, :, :5], None)
    torch.testing.assert_close(whole[:, 4:5], short, rtol=0.05, atol=0.02)


def test_heads_may_share_keys() -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 6, 9, 16, dtype=torch.bfloat16)
    key, value = (torch.randn(2, 2, 9, 16, dtype=torch.bfloat16) for _ in range(2))
    shared, _ = attention(module(groups=3), query, key, value, None)
    each, _ = attention(module(), query, *(part.repeat_interleave(3, dim=1) for part in (key, value)), None)
    torch.testing.assert_close(shared, each, rtol=0.05, atol=0.02)

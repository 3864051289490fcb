from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from tests.embedding import with_bf16
from workers.embed.attention import attention

pytestmark = with_bf16


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
        mixed, weights = attention(nn.Identity(), query, key, value, None, scaling)
    exact = scaled_dot_product_attention(query.float(), key.float(), value.float(), scale=scaling)
    assert weights is None
    assert mixed.is_contiguous()
    assert mixed.shape == (batch, queries, heads, width)
    assert torch.cosine_similarity(mixed.float(), exact.transpose(1, 2), dim=-1).min() >= 0.999


def test_tokens_that_are_masked_are_left_out() -> None:
    torch.manual_seed(0)
    module = nn.Identity()
    module.is_causal = False
    query, key, value = (torch.randn(2, 3, 9, 16, dtype=torch.bfloat16) for _ in range(3))
    mask = (torch.arange(9) < 5).expand(2, 1, 9, 9)
    masked, _ = attention(module, query, key, value, mask)
    short, _ = attention(module, query, key[:, :, :5], value[:, :, :5], None)
    torch.testing.assert_close(masked, short, rtol=0.05, atol=0.02)

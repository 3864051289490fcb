"""api/filters.py: which filters pass."""

from __future__ import annotations

from typing import Any

import pytest

from api.filters import checked_filter
from shared.errors import RequestCode, RequestError

ONE = {"key": "dx", "match": {"value": "mel"}}


def inside(depth: int) -> dict[str, Any]:
    filter: dict[str, Any] = {"must": [ONE]}
    for _ in range(depth - 1):
        filter = {"must": [filter]}
    return filter


@pytest.mark.parametrize(
    "filter",
    [
        {},
        {"must": [ONE]},
        {"must": ONE, "must_not": [ONE], "should": None},
        {"must": [{"key": "age", "range": {"gte": 18, "lt": 65.5}}, {"is_empty": {"key": "dx"}}]},
        {"must": [{"key": "at", "range": {"gt": "2024-01-01T00:00:00Z"}}, {"has_id": [1]}]},
        {"min_should": {"conditions": [ONE, ONE], "min_count": 1}},
        {"must": [{"nested": {"key": "a", "filter": {"must": [ONE]}}}]},
        {"must": [{"key": "dx", "match": {"any": ["x"] * 1000}}]},
        {"must": [ONE] * 256},
        inside(8),
    ],
)
def test_a_filter_of_qdrants_passes_as_it_stands(filter: dict[str, Any]) -> None:
    assert checked_filter(filter) == filter


@pytest.mark.parametrize(
    ("filter", "word"),
    [
        ([], "object"),
        ("dx", "object"),
        ({"foo": 1}, "`foo`"),
        ({"must": 5}, "`must`"),
        ({"must": [{"key": "dx", "matches": {"value": 1}}]}, "`must.0.matches`"),
        ({"must": [{"key": "age", "range": {"above": 5}}]}, "`must.0.range.above`"),
        ({"must": [{"key": 5, "match": {"value": 1}}]}, "`must.0"),
        ({"must": [{"key": "dx", "match": {"any": ["x"] * 1001}}]}, "1,001 members"),
        ({"must": [ONE] * 257}, "257 conditions"),
        ({"must": [{"must": [ONE] * 100}] * 3}, "303 conditions"),
        (inside(9), "inside each other"),
        (inside(300), "inside each other"),
        ({"must": [{"key": "dx", "match": {"value": "x" * 70_000}}]}, "64 KiB"),
    ],
)
def test_a_filter_that_qdrant_would_not_take_is_refused_in_words(filter: Any, word: str) -> None:
    with pytest.raises(RequestError) as error:
        checked_filter(filter)
    assert error.value.code == RequestCode.INVALID_FILTER
    assert word in error.value.detail
    assert len(error.value.detail) < 400


@pytest.mark.parametrize("fields", [[f"field{n}" for n in range(33)], ["x" * 257]])
def test_a_filter_cannot_ask_for_indexes_without_bound(fields: list[str]) -> None:
    nested = {"must": [{"key": field, "match": {"value": 1}} for field in fields]}
    with pytest.raises(RequestError) as refused:
        checked_filter({"should": [nested]})
    assert refused.value.code == RequestCode.INVALID_FILTER

"""api/filters.py: which filters pass."""

from __future__ import annotations

from typing import Any

import pytest

from api.filters import checked_filter, excluding
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
        {"must": [{"key": "dx", "match": {"text": "x" * 1000}}, {"key": "n", "match": {"value": 2**63 - 1}}]},
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
        ({"must": [{"key": "dx", "match": {"text": "red " * 251}}]}, "1,004 characters of text"),
        ({"must": [{"key": "dx", "match": {"phrase": "x" * 400}}] * 3}, "1,200 characters of text"),
        (
            {
                "must": [
                    {
                        "nested": {
                            "key": "a",
                            "filter": {"must": {"key": "b", "match": {"text_any": "x" * 1001}}},
                        }
                    }
                ]
            },
            "text",
        ),
        ({"must": [{"key": "dx", "match": {"value": 2**63}}]}, "64 bits"),
        ({"must": [{"key": "age", "range": {"gte": 10**400}}]}, "64 bits"),
        ({"must": [{"has_id": [-(2**63) - 1]}]}, "64 bits"),
        ({"min_should": {"conditions": [ONE], "min_count": 10**30}}, "64 bits"),
        ({"must": [{"key": 'a"b', "match": {"value": 1}}]}, "is no field"),
        ({"must": [{"is_empty": {"key": "a\\b"}}]}, "is no field"),
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


def test_fields_that_qdrant_would_not_read_are_quoted() -> None:
    given = {
        "must": [
            {"key": "Uniq Id", "match": {"value": "key"}},
            {"key": "_image.width", "range": {"gte": 300}},
            {"nested": {"key": "offers[]", "filter": {"must": [{"key": "list price", "range": {"lt": 5}}]}}},
        ],
        "must_not": {"is_empty": {"key": "About Product"}},
        "min_should": {"conditions": [{"is_null": {"key": '"ready made"'}}], "min_count": 1},
    }
    assert checked_filter(given) == {
        "must": [
            {"key": '"Uniq Id"', "match": {"value": "key"}},
            {"key": "_image.width", "range": {"gte": 300}},
            {
                "nested": {
                    "key": "offers[]",
                    "filter": {"must": [{"key": '"list price"', "range": {"lt": 5}}]},
                }
            },
        ],
        "must_not": {"is_empty": {"key": '"About Product"'}},
        "min_should": {"conditions": [{"is_null": {"key": '"ready made"'}}], "min_count": 1},
    }


@pytest.mark.parametrize(
    ("filter", "exclude", "whole"),
    [
        ({}, {}, {}),
        ({"must": [ONE]}, {"a": "x"}, {"must": [ONE], "must_not": [{"key": "a", "match": {"any": ["x"]}}]}),
        ({"must_not": ONE}, {"a": 5}, {"must_not": [ONE, {"key": "a", "match": {"value": 5}}]}),
        ({"must_not": [ONE]}, {"a": True}, {"must_not": [ONE, {"key": "a", "match": {"value": True}}]}),
        ({}, {"a": 1.5}, {"must_not": [{"key": "a", "range": {"gte": 1.5, "lte": 1.5}}]}),
        (
            {},
            {"a": ["x", 1, "y"]},
            {"must_not": [{"key": "a", "match": {"any": ["x", "y"]}}, {"key": "a", "match": {"value": 1}}]},
        ),
        ([], {"a": 1}, []),
    ],
)
def test_what_is_excluded_joins_the_filter(filter: Any, exclude: Any, whole: Any) -> None:
    assert excluding(filter, exclude) == whole

"""workers/conditions.py: filters put together, read and indexed."""

from __future__ import annotations

from workers.conditions import besides, filtered_fields, narrowed, one_of

ONE = {"key": "dx", "match": {"value": "mel"}}
TWO = {"has_id": ["x"]}


def test_conditions_join_those_that_stand() -> None:
    assert narrowed(None) is None
    assert narrowed({}, must=[ONE]) == {"must": [ONE]}
    assert narrowed({"must": ONE, "should": [TWO]}, must=[TWO]) == {"must": [ONE, TWO], "should": [TWO]}
    assert narrowed({"must_not": None}, must_not=[ONE]) == {"must_not": [ONE]}


def test_a_filter_is_not_changed_by_what_joins_it() -> None:
    filter = {"must": [ONE]}
    narrowed(filter, must=[TWO])
    assert filter == {"must": [ONE]}


def test_values_of_each_kind_are_matched_as_qdrant_can() -> None:
    assert one_of("f", ["a", 1, True, "b", 0, False]) == [
        {"key": "f", "match": {"any": ["a", "b"]}},
        {"key": "f", "match": {"any": [1, 0]}},
        {"key": "f", "match": {"value": True}},
        {"key": "f", "match": {"value": False}},
    ]
    assert one_of("f", []) == []


def test_an_image_with_another_value_is_told_by_those_it_may_lack() -> None:
    assert besides("f", ["a", 1, True]) == {
        "should": [
            {"must_not": one_of("f", ["a", 1, True])},
            {
                "must": [
                    {"key": "f", "match": {"except": ["a"]}},
                    {"key": "f", "match": {"except": [1]}},
                ]
            },
        ]
    }
    assert besides("f", [True]) == {"should": [{"must_not": one_of("f", [True])}]}


def test_every_field_of_a_filter_is_found_with_its_type() -> None:
    filter = {
        "must": [{"key": "a", "match": {"value": "x"}}, {"should": [{"key": "b", "match": {"any": [1, 2]}}]}],
        "must_not": {"key": "c", "match": {"value": True}},
        "should": [
            {"key": "d", "range": {"gte": 1.5}},
            {"key": "e", "range": {"lt": "2026-01-01T00:00:00Z"}},
        ],
        "min_should": {"conditions": [{"key": "f", "match": {"text": "red"}}], "min_count": 1},
    }
    assert dict(filtered_fields(filter)) == {
        "a": "keyword",
        "b": "integer",
        "c": "bool",
        "d": "float",
        "e": "datetime",
        "f": "text",
    }

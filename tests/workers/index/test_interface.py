"""workers/index/interface.py: what needs no engine."""

from __future__ import annotations

from typing import Any

import pytest

from workers.index.interface import values_at


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("a", [1]),
        ("a.b", []),
        ("of.it", ["x"]),
        ('"two words"', [2]),
        ('of."two words"', [3]),
        ("tags", ["x", "y"]),
        ("offers[].price", [5, 6]),
        ("nothing", []),
        ("none", []),
        ("some", ["z"]),
    ],
)
def test_a_path_leads_to_all_values(path: str, values: list[Any]) -> None:
    payload = {
        "a": 1,
        "of": {"it": "x", "two words": 3},
        "two words": 2,
        "tags": ["x", "y"],
        "offers": [{"price": 5}, {"price": 6}, "sold out"],
        "none": None,
        "some": [None, "z"],
    }
    assert values_at(payload, path) == values

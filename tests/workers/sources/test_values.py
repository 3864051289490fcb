"""workers/sources/values.py: typed cells as payload values."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from workers.sources.values import value


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        (5, 5), (True, True), ("", ""), ("x", "x"), (1.5, 1.5), (None, None), (float("nan"), None),
        (Decimal("24.99"), 24.99), (Decimal("NaN"), None),
        (date(2020, 1, 2), "2020-01-02"), (datetime(2020, 1, 2, 3, tzinfo=UTC), "2020-01-02T03:00:00+00:00"),
        (time(3, 4), "03:04:00"), (timedelta(minutes=2), 120.0),
        ([1, None, float("nan")], [1, None, None]), ([("k", 1)], [["k", 1]]),
        ({"a": {"b": None, "c": [date(2020, 1, 2)]}, "d": None}, {"a": {"c": ["2020-01-02"]}}),
        (b"bytes", None), ({"bytes": b"x", "path": "p"}, {"path": "p"}),
    ],
)  # fmt: skip
def test_a_cell_is_json_and_what_is_missing_is_none(cell: Any, kept: Any) -> None:
    assert value(cell) == kept
    assert type(value(cell)) is type(kept)

"""A typed cell → a payload value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any


def value(cell: Any) -> Any:
    """The cell as JSON has it; None: it is missing.

    NaN is missing, as None is. Dates and times become ISO 8601 text, durations seconds, decimals floats; bytes are no
    payload, so they are missing too. Objects lose their missing members, lists keep their places.
    """
    if cell is None or isinstance(cell, str | bool | int):
        return cell
    if isinstance(cell, float):
        return None if math.isnan(cell) else float(cell)
    if isinstance(cell, Decimal):
        return value(float(cell))
    if isinstance(cell, date | time):
        return _moment(cell)
    if isinstance(cell, timedelta):
        return cell.total_seconds()
    if isinstance(cell, Mapping):
        members = {str(name): value(member) for name, member in cell.items()}
        return {name: member for name, member in members.items() if member is not None}
    if isinstance(cell, list | tuple):
        return [value(member) for member in cell]
    return None if isinstance(cell, bytes | bytearray) else str(cell)


def _moment(cell: date | time) -> str | None:
    text = cell.isoformat()
    return None if text == "NaT" else text

"""What a cell of a feed says: numbers, truth values, lists, prices, and the URLs that it holds."""

from __future__ import annotations

import json
import re
from typing import Any

# Only what reads the same when it is written again: `00123` and `+49…` are names, not numbers.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?")
_NUMBER_STARTS = frozenset("-0123456789")
_MOST_DIGITS = 15
_TRUTH = {"true": True, "false": False}

# Digits, and groups of them behind a point or a comma; behind an apostrophe or a space, groups of three.
_AMOUNT = re.compile(r"[0-9]+(?:(?:[.,]|['’ \u00a0\u202f](?=[0-9]{3}(?![0-9])))[0-9]+)*")
_RANGE = re.compile(r"[^0-9]*[-–—~]|[^0-9]*\bto\b", re.IGNORECASE)


def cell_value(cell: str) -> Any:
    """A cell as a number, a truth value or a list where it plainly is one, else as it stands."""
    number = _NUMBER.fullmatch(cell) if cell[:1] in _NUMBER_STARTS else None
    if number and len(cell.strip("-").replace(".", "")) <= _MOST_DIGITS and cell != "-0":
        return float(cell) if number[1] else int(cell)
    if (members := json_list(cell)) is not None:
        return members
    return _TRUTH.get(cell.lower(), cell)


def json_list(cell: str) -> list[Any] | None:
    """The list that a cell holds as JSON, None where it holds none."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    try:
        members = json.loads(cell)
        json.dumps(members, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # no JSON, half a surrogate pair, or nested without end
        return None
    return members if isinstance(members, list) else None


def urls_in(cell: Any, separator: str | None) -> list[str] | None:
    """The URLs of a cell that holds several, as a list or parted by `separator`. None: it holds one, as it stands."""
    members = cell if isinstance(cell, list) else None
    if isinstance(cell, str):
        members = json_list(cell.strip())
        if members is None and separator:
            members = cell.split(separator)
    return members and [url for member in members if (url := str(member or "").strip())]


def price(value: Any) -> Any:
    """The amount of a price, as a float: `$24.99`, `1.299,00 €`, `1 299 kr`, `CHF 1'299.–`.

    Of a range, `$9.99 - $19.99`, the lower one. Of a point and a comma, the latter parts the decimals; one that comes
    twice, or stands alone before exactly three digits (`1,299`, not `0.299`), parts thousands. What names no amount
    or several stays as it is, and so does what has a minus before it.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return value
    found = list(_AMOUNT.finditer(value))
    is_one = len(found) == 1 or (len(found) == 2 and _RANGE.match(value[found[0].end() : found[1].start()]))
    if not is_one or "-" in value[: found[0].start()]:
        return value
    return min(_amount(each[0]) for each in found)


def _amount(digits: str) -> float:
    digits = re.sub(r"['’\s]", "", digits)
    last = max(digits.rfind("."), digits.rfind(","))
    if last < 0:
        return float(digits)
    whole, mark, rest = digits[:last], digits[last], digits[last + 1 :]
    only = len({"." in digits, "," in digits}) == 2
    if only and (mark in whole or (len(rest) == 3 and whole != "0")):
        return float(re.sub(r"[.,]", "", digits))
    return float(f"{re.sub(r'[.,]', '', whole)}.{rest}")

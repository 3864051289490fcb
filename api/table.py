"""A CSV body → items: a header row, a column of URLs, maybe one of ids, and every other column a payload field."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from api.items import checked_item, not_an_item
from shared.contract import Item
from shared.errors import RequestCode, RequestError

# Only what reads the same when it is written again: `00123` and `+49…` are names, not numbers.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?")
_MOST_DIGITS = 15
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class Layout:
    """How a feed is to be read. `id_column` None: `id`, where there is one."""

    url_column: str = "url"
    id_column: str | None = None
    separator: str | None = None
    delimiter: str = ","


def table_items(body: io.BufferedReader, max_item_bytes: int, layout: Layout) -> Iterator[Item]:
    """The items of every row, in order; a row has several where a separator parts its URLs."""
    lines = _Lines(body, max_item_bytes)
    csv.field_size_limit(max_item_bytes + len("\r\n"))  # as a row: `_Lines` says it better
    rows = csv.reader(lines, delimiter=layout.delimiter, strict=True)
    try:
        header = _Header(next(rows, []), layout)
        lines.next_row()
        for cells in rows:
            if cells:
                yield from header.items(cells, lines.row)
            lines.next_row()
    except csv.Error as error:
        raise RequestError(
            RequestCode.INVALID_BODY,
            f"Row {lines.row:,} is not CSV: {error}. Rows count from the header, row 1.",
        ) from error


class _Lines:
    """Decodes for the CSV reader, and stops where one row (quoted line breaks and all) outgrows its bound."""

    def __init__(self, body: io.BufferedReader, max_item_bytes: int) -> None:
        self.row = 1
        self._body = body
        self._bound = max_item_bytes + len("\r\n")
        self._size = 0

    def next_row(self) -> None:
        self.row += 1
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._body.readline(self._bound + 1):
            self._size += len(line)
            if self._size > self._bound:
                raise not_an_item("Row", self.row, "it is too long for one item; is a quote left open?")
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise RequestError(RequestCode.INVALID_BODY, f"Row {self.row:,} is not UTF-8.") from error


class _Header:
    """The first row: which column is what."""

    def __init__(self, cells: list[str], layout: Layout) -> None:
        self._names = [cell.strip() for cell in cells]
        self._separator = layout.separator
        self._check_doubles()
        self._url = self._place(layout.url_column, "url_column")
        default_id = "id" if "id" in self._names else None
        id_column = layout.id_column or default_id
        self._id = self._place(id_column, "id_column") if id_column else None
        self._fields = [
            (place, name)
            for place, name in enumerate(self._names)
            if name and place not in (self._url, self._id)
        ]

    def items(self, cells: list[str], row: int) -> Iterator[Item]:
        """The items of one row."""
        if len(cells) > len(self._names):
            raise not_an_item("Row", row, f"it has {len(cells)} cells, and the header has {len(self._names)}")
        cells += [""] * (len(self._names) - len(cells))
        id = cells[self._id] if self._id is not None else ""
        payload = {name: _value(cells[place]) for place, name in self._fields if cells[place]}
        if self._separator is None:
            yield checked_item(cells[self._url].strip(), id or None, payload)
            return
        if id:
            payload["group"] = id
        urls = [url for part in cells[self._url].split(self._separator) if (url := part.strip())]
        for number, url in enumerate(urls or [""], start=1):
            yield checked_item(url, f"{id}#{number}" if id else None, payload)

    def _check_doubles(self) -> None:
        named = [name for name in self._names if name]
        if len(set(named)) < len(named):
            twice = next(name for name in named if named.count(name) > 1)
            raise RequestError(RequestCode.INVALID_BODY, f"The header names `{twice[:100]}` twice.")

    def _place(self, name: str, argument: str) -> int:
        if name not in self._names:
            there = ", ".join(f"`{each[:100]}`" for each in self._names[:50] if each) or "nothing"
            raise RequestError(
                RequestCode.INVALID_BODY,
                f"The CSV has no column `{name[:100]}`; its header has {there}. Name the column with ?{argument}=.",
            )
        return self._names.index(name)


def _value(cell: str) -> Any:
    """A cell as a number or a truth value where it plainly is one, else as it stands."""
    number = _NUMBER.fullmatch(cell)
    if number and len(cell.strip("-").replace(".", "")) <= _MOST_DIGITS and cell != "-0":
        return float(cell) if number[1] else int(cell)
    return _TRUTH.get(cell.lower(), cell)

"""A CSV feed, row by row, from its bytes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Protocol

from shared.errors import RequestCode, RequestError


class Bytes(Protocol):
    """A file, or a body as it comes in."""

    def readline(self, size: int = -1, /) -> bytes: ...


class Table:
    """A CSV feed in UTF-8 whose first row names the columns; names are stripped, and a column without one is passed
    over.

    Iterate for the cells of each row; rows without any are none. RequestError(INVALID_BODY) where it is no CSV,
    (INVALID_ITEM) where one row is longer than `max_row_bytes`: a quote left open takes all the rest for one cell.
    """

    def __init__(self, feed: Bytes, max_row_bytes: int, delimiter: str = ",") -> None:
        self._lines = _Lines(feed, max_row_bytes)
        csv.field_size_limit(max_row_bytes + len("\r\n"))  # as a row: `_Lines` says it better
        self._rows = csv.reader(self._lines, delimiter=delimiter, strict=True)
        self._names = [cell.strip() for cell in self._next() or []]
        self.columns = [name for name in self._names if name]
        self._check_doubles()

    def __iter__(self) -> Iterator[list[str]]:
        while (cells := self._next()) is not None:
            if any(cells):
                yield cells

    @property
    def columns_in_words(self) -> str:
        """For a person who named another one."""
        return ", ".join(f"`{name[:100]}`" for name in self.columns[:50]) or "nothing"

    @property
    def number(self) -> int:
        """Of the row at hand. The header is row 1."""
        return self._lines.row

    def row(self, cells: list[str]) -> dict[str, str]:
        """The cells by their columns' names, without the empty ones.

        RequestError(INVALID_ITEM) where there are more of them than columns; the rows after it can be read.
        """
        if len(cells) > len(self._names):
            raise RequestError(
                RequestCode.INVALID_ITEM,
                f"Row {self.number:,}: it has {len(cells)} cells, and the header has {len(self._names)}.",
            )
        return {name: cell for name, cell in zip(self._names, cells, strict=False) if name and cell}

    def _next(self) -> list[str] | None:
        self._lines.next_row()
        try:
            return next(self._rows, None)
        except csv.Error as error:
            raise RequestError(
                RequestCode.INVALID_BODY,
                f"Row {self.number:,} is not CSV: {error}. Rows count from the header, row 1.",
            ) from error

    def _check_doubles(self) -> None:
        if len(set(self.columns)) < len(self.columns):
            twice = next(name for name in self.columns if self.columns.count(name) > 1)
            raise RequestError(RequestCode.INVALID_BODY, f"The header names `{twice[:100]}` twice.")


class _Lines:
    """Decodes for the CSV reader, and stops where one row (quoted line breaks and all) outgrows its bound."""

    def __init__(self, feed: Bytes, max_row_bytes: int) -> None:
        self.row = 0
        self._feed = feed
        self._bound = max_row_bytes + len("\r\n")
        self._size = 0

    def next_row(self) -> None:
        self.row += 1
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._feed.readline(self._bound + 1):
            self._size += len(line)
            if self._size > self._bound:
                raise RequestError(
                    RequestCode.INVALID_ITEM,
                    f"Row {self.row:,}: it is too long for one item; is a quote left open?",
                )
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise RequestError(RequestCode.INVALID_BODY, f"Row {self.row:,} is not UTF-8.") from error

"""Feeds that are text: CSV, TSV, and JSON as a list of objects or as one object a line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import ijson

from shared.cells import cell_value
from shared.errors import RequestError
from shared.table import Table
from workers.sources.rows import Broken, Row, Rows, SourceError, check_columns

_DELIMITERS = {"csv": ",", "tsv": "\t"}


def table_rows(paths: Sequence[str], format: str, max_row_bytes: int, skip: int) -> Rows:
    """The rows of CSV or TSV files; their cells are text. Columns are those of the first file."""
    first, *others = (partial(_Feed, path, _DELIMITERS[format], max_row_bytes) for path in paths)
    feed = first()

    def read(needed: Collection[str]) -> Iterator[Row | Broken]:
        rest = chain.from_iterable(each().checked(needed) for each in others)
        return islice(chain(feed, rest), skip, None)

    return Rows(read, columns=feed.table.columns, value=cell_value)


class _Feed:
    """The rows of one CSV file."""

    def __init__(self, path: str, delimiter: str, max_row_bytes: int) -> None:
        self._name = Path(path).name
        with self._in_words():
            self.table = Table(_opened(path), max_row_bytes, delimiter)

    def checked(self, needed: Collection[str]) -> _Feed:
        """Itself; SourceError where it lacks a column."""
        check_columns(self._name, self.table.columns, needed)
        return self

    def __iter__(self) -> Iterator[Row | Broken]:
        with self._in_words():
            for cells in self.table:
                yield self._row(cells)

    def _row(self, cells: list[str]) -> Row | Broken:
        try:
            return self.table.row(cells)
        except RequestError as error:
            return Broken(error.detail)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except RequestError as error:
            raise SourceError(f"`{self._name}`: {error.detail}") from error


def json_rows(paths: Sequence[str], max_row_bytes: int, skip: int) -> Rows:
    """The objects of JSON files. A line that is no object is a broken row, save for the first one of a file."""
    rows = chain.from_iterable(_objects(path, max_row_bytes) for path in paths)
    return Rows(lambda _: islice(rows, skip, None))


def _objects(path: str, max_row_bytes: int) -> Iterator[Row | Broken]:
    name = Path(path).name
    with _opened(path) as file:
        if _is_list(file):
            yield from _members(file, name)
        else:
            yield from _lines(file, name, max_row_bytes)


def _members(file: BinaryIO, name: str) -> Iterator[Row | Broken]:
    try:
        for number, member in enumerate(ijson.items(file, "item", use_float=True), start=1):
            yield member if isinstance(member, dict) else Broken(f"Element {number:,} is no object.")
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise SourceError(f"`{name}` is not JSON to its end: {_first_line(error)}.") from error


def _lines(file: BinaryIO, name: str, max_row_bytes: int) -> Iterator[Row | Broken]:
    number = 0
    while line := file.readline(max_row_bytes + 2):
        number += 1
        if len(line.rstrip(b"\r\n")) > max_row_bytes:
            raise SourceError(f"`{name}`: line {number:,} is longer than {max_row_bytes:,} bytes.")
        if not line.isspace():
            row = _object(line, number)
            if isinstance(row, Broken) and number == 1:
                raise SourceError(f"`{name}` is neither a list of objects nor one object a line: {row.why}")
            yield row


def _object(line: bytes, number: int) -> Row | Broken:
    try:
        row: Any = json.loads(line)
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        return Broken(f"Line {number:,} is not JSON: {_first_line(error)}.")
    return row if isinstance(row, dict) else Broken(f"Line {number:,} is no object.")


def _opened(path: str) -> BinaryIO:
    """The file, after the mark that some spreadsheets begin with."""
    file = open(path, "rb")  # noqa: SIM115
    if not file.peek(3).startswith(codecs.BOM_UTF8):
        return file
    file.read(len(codecs.BOM_UTF8))
    return file


def _is_list(file: BinaryIO) -> bool:
    start = file.tell()
    opening = file.read(4096).lstrip()[:1]
    file.seek(start)
    return opening == b"["


def _first_line(error: Exception) -> str:
    told = error.args[0] if error.args and not isinstance(error, UnicodeError) else "it is not UTF-8"
    text = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
    return text.partition("\n")[0].rstrip(".")

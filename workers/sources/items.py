"""The rows of a source → items and their pictures' bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from pydantic_core import PydanticSerializationError

from shared.contract import Item, Refusal, Source
from shared.errors import FailureCode
from shared.items import checked_item, id_refusal, payload_invalid, payload_refusal, refused_item
from shared.rows import Layout
from workers.sources.orders import Orders
from workers.sources.pictures import Pictures
from workers.sources.rows import Broken, Row, Rows, SourceError, in_words

_MOST_OF_ROW = 64 * 2**20  # bytes of one row's items and pictures; or what one item with its picture may have

ItemAndBytes = tuple[Item, bytes | None]


class Items:
    """Makes the items of a row. SourceError where a column that the person named is not there.

    `columns` are those that are read as more than payload.
    """

    def __init__(self, orders: Orders, rows: Rows) -> None:
        self._rows = rows
        self._most = orders.max_item_bytes
        self._most_of_row = max(_MOST_OF_ROW, orders.max_item_bytes + orders.max_image_bytes)
        self._picture_column = _picture_column(orders.source, rows)
        self._layout = _layout(orders.source, rows, self._picture_column)
        self.columns = _needed(self._layout, self._picture_column)
        self._pictures = Pictures(rows.open, orders.source.separator, orders.max_image_bytes)

    def of(self, row: Row | Broken, number: int) -> list[ItemAndBytes]:
        """The items of row `number`, from 0; what is unusable is refused by itself."""
        if isinstance(row, Broken):
            return _broken(number, row.why)
        try:
            return self._of(row, number)
        except RecursionError:
            return _broken(number, "The row is nested too deep.")

    def _of(self, row: Row, number: int) -> list[ItemAndBytes]:
        made: list[ItemAndBytes] = []
        weight = 0
        for item, data in self._made(row, number):
            size = _size(item)
            if size is None or size > self._most:
                made.append((_too_much(item), None))
                continue
            made.append((item, data))
            weight += size + len(data or b"")
            if weight > self._most_of_row:
                return [(self._too_heavy(row, number), None)]
        return made

    def _made(self, row: Row, number: int) -> Iterator[ItemAndBytes]:
        if self._picture_column is None:
            return ((item, None) for item in self._layout.items(row, self._rows.value))
        return self._of_pictures(row, self._picture_column, number)

    def _of_pictures(self, row: Row, column: str, number: int) -> Iterator[ItemAndBytes]:
        """A picture is opened when it is asked for."""
        cells, several = self._pictures.cells(row.get(column))
        for cell, id, payload in self._layout.members(row, cells, several, self._rows.value):
            picture = cell if isinstance(cell, Refusal) else self._pictures.of(cell)
            if isinstance(picture, str):
                yield checked_item(picture, id, payload), None
            elif isinstance(picture, Refusal):
                yield _refused(id, number, picture), None
            else:
                yield _item(id, payload, picture)

    def _too_heavy(self, row: Row, number: int) -> Item:
        why = f"The row's pictures and payloads have more than {self._most_of_row:,} bytes together."
        refusal = Refusal(code=FailureCode.TOO_LARGE, detail=why, unnamed=True)
        return _refused(self._layout.id_of(row), number, refusal)


def _item(id: str | None, payload: dict[str, Any], picture: bytes) -> ItemAndBytes:
    own = id or f"sha256:{hashlib.sha256(picture).hexdigest()}"
    if refusal := id_refusal(id) or payload_refusal(payload):
        return refused_item(own, refusal), None
    return Item(id=own, payload=payload), picture


def _refused(id: str | None, number: int, refusal: Refusal) -> Item:
    """Where there is no id, what is not to be had has no name: that would be its bytes' hash."""
    if id:
        return refused_item(id, refusal)
    return refused_item(f"row:{number}", refusal.model_copy(update={"unnamed": True}))


def _broken(number: int, why: str) -> list[ItemAndBytes]:
    return [(_refused(None, number, payload_invalid(why)), None)]


def _size(item: Item) -> int | None:
    """Bytes of the item as JSON; None: it has half a surrogate pair, and no bytes."""
    try:
        return len(item.model_dump_json().encode())
    except PydanticSerializationError:
        return None


def _too_much(item: Item) -> Item:
    id = item.id.encode(errors="replace").decode()
    return refused_item(id, payload_invalid("The item is too large, or has text that is not Unicode."))


def _picture_column(source: Source, rows: Rows) -> str | None:
    """The column of pictures, None where they are named by URL alone."""
    if source.image_column:
        return _there(source.image_column, "image_column", rows)
    return rows.pictures[0] if rows.pictures and not source.url_column else None


def _layout(source: Source, rows: Rows, picture_column: str | None) -> Layout:
    url_column = "" if picture_column else source.url_column or "url"
    if url_column:
        _there(url_column, "url_column" if source.url_column else "image_column` or `url_column", rows)
    id_column = source.id_column and _there(source.id_column, "id_column", rows)
    id_column = id_column or (rows.key if not rows.columns or rows.key in rows.columns else None)
    group_column = source.group_column and _there(source.group_column, "group_column", rows)
    for price in source.prices:
        _there(price, "prices", rows)
    return Layout(
        url_column=url_column,
        id_column=id_column,
        needs_id=source.id_column is not None,
        group_column=group_column,
        separator=source.separator,
        prices=frozenset(source.prices),
        fill=source.fill,
        apart={url_column, id_column or "", picture_column or "", *rows.pictures, *rows.hidden},
    )


def _needed(layout: Layout, picture_column: str | None) -> list[str]:
    columns = (picture_column, layout.url_column, layout.id_column, layout.group_column, *layout.prices)
    return [column for column in columns if column]


def _there(column: str, argument: str, rows: Rows) -> str:
    """The column; where it is not among those that the source says it has, SourceError."""
    if rows.columns and column not in rows.columns:
        there = in_words(rows.columns)
        raise SourceError(
            f"There is no column `{column[:100]}`; there are {there}. Name the column with `{argument}`."
        )
    return column

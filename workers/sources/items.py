"""The rows of a source → items and their pictures' bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pydantic_core import PydanticSerializationError

from shared.contract import Item, Refusal, Source
from shared.items import checked_item, id_refusal, payload_invalid, payload_refusal, refused_item
from shared.rows import Layout
from workers.sources.orders import Orders
from workers.sources.pictures import Pictures
from workers.sources.rows import Broken, Row, Rows, SourceError

ItemAndBytes = tuple[Item, bytes | None]


class Items:
    """Makes the items of a row. SourceError where a column that the person named is not there."""

    def __init__(self, orders: Orders, rows: Rows) -> None:
        self._rows = rows
        self._most = orders.max_item_bytes
        self._picture_column = _picture_column(orders.source, rows)
        self._layout = _layout(orders.source, rows, self._picture_column)
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
        if self._picture_column is None:
            made: list[ItemAndBytes] = [(item, None) for item in self._layout.items(row, self._rows.value)]
        else:
            made = list(self._of_pictures(row, self._picture_column, number))
        return [(item, data) if self._fits(item) else (_too_much(item), None) for item, data in made]

    def _fits(self, item: Item) -> bool:
        try:
            return len(item.model_dump_json()) <= self._most
        except PydanticSerializationError:  # half a surrogate pair
            return False

    def _of_pictures(self, row: Row, column: str, number: int) -> Iterator[ItemAndBytes]:
        pictures, several = self._pictures.of(row.get(column))
        for picture, id, payload in self._layout.members(row, pictures, several, self._rows.value):
            if isinstance(picture, str):
                yield checked_item(picture, id, payload), None
                continue
            refusal = picture if isinstance(picture, Refusal) else id_refusal(id) or payload_refusal(payload)
            if refusal:
                yield refused_item(id or f"row:{number}", refusal), None
            elif isinstance(picture, bytes):
                yield Item(id=id or f"sha256:{hashlib.sha256(picture).hexdigest()}", payload=payload), picture


def _broken(number: int, why: str) -> list[ItemAndBytes]:
    return [(refused_item(f"row:{number}", payload_invalid(why)), None)]


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
        group_column=group_column,
        separator=source.separator,
        prices=frozenset(source.prices),
        fill=source.fill,
        apart={url_column, id_column or "", picture_column or "", *rows.pictures, *rows.hidden},
    )


def _there(column: str, argument: str, rows: Rows) -> str:
    """The column; where it is not among those that the source says it has, SourceError."""
    if rows.columns and column not in rows.columns:
        there = ", ".join(f"`{name[:100]}`" for name in rows.columns[:50])
        raise SourceError(
            f"There is no column `{column[:100]}`; there are {there}. Name the column with `{argument}`."
        )
    return column

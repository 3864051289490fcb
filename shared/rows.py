"""A row of a feed → its items: the API reads CSV bodies so, and workers every feed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shared.cells import price, urls_in
from shared.contract import Item, Refusal
from shared.items import checked_item, payload_invalid, refused_item

MOST_REFERENCES = 1000  # images of one row

Reference = TypeVar("Reference")


@dataclass(frozen=True)
class Layout:
    """How the rows of a feed are to be read; a row is its cells by column, and a missing cell is absent or None.

    Every column but `apart` is a payload field. A row without an id is refused where it `needs_id`, for its images
    would stand a second time under another name. `prices` are the columns whose cells are read as amounts, `fill` is
    what stands for a field's missing value. `group_column` says what stands in a payload's `group`; None: of a row
    with several images, the row's own id.
    """

    url_column: str = "url"
    id_column: str | None = None
    needs_id: bool = False
    group_column: str | None = None
    separator: str | None = None
    prices: Collection[str] = ()
    fill: Mapping[str, Any] = field(default_factory=dict)
    apart: Collection[str] = ()

    def items(self, row: Mapping[str, Any], value: Callable[[Any], Any]) -> Iterator[Item]:
        """The items of a row that names images by URL, several where its cell holds several."""
        cell = row.get(self.url_column) or ""
        several = urls_in(cell, self.separator)
        urls = [str(cell).strip()] if several is None else several or [""]
        for url, id, payload in self.members(row, urls, several is not None, value):
            if isinstance(url, Refusal):
                yield refused_item(id, url, urls[0])
            else:
                yield checked_item(url, id, payload)

    def members(
        self,
        row: Mapping[str, Any],
        references: Sequence[Reference],
        several: bool,
        value: Callable[[Any], Any],
    ) -> Iterator[tuple[Reference | Refusal, str | None, dict[str, Any]]]:
        """Each image of a row with its id (None: the row has none) and payload, whose cells `value` reads."""
        id = self.id_of(row)
        payload = self._payload(row, value)
        if self.group_column is None and several and id:
            payload["group"] = id
        if why := self._flaw(id, len(references)):
            yield payload_invalid(why, unnamed=True), id, payload
            return
        for number, reference in enumerate(references, start=1):
            yield reference, f"{id}#{number}" if id and several else id, payload

    def id_of(self, row: Mapping[str, Any]) -> str | None:
        """The row's own id, None: it has none."""
        return _text(row.get(self.id_column)) if self.id_column else None

    def _flaw(self, id: str | None, images: int) -> str | None:
        """Why nobody can say which images the row stands for; None where it can be told."""
        if images > MOST_REFERENCES:
            return f"The row has {images:,} images, {MOST_REFERENCES:,} are allowed."
        if id is None and self.needs_id:
            return f"`{(self.id_column or '')[:100]}` is empty in this row, and images are known by it."
        return None

    def _payload(self, row: Mapping[str, Any], value: Callable[[Any], Any]) -> dict[str, Any]:
        payload = dict(self.fill)
        for name, cell in row.items():
            if name not in self.apart:
                read = price(cell) if name in self.prices else value(cell)
                if read is not None:
                    payload[name] = read
        group = row.get(self.group_column) if self.group_column else None
        if group is not None and (read := value(group)) is not None:
            payload["group"] = read
        return payload


def _text(cell: Any) -> str | None:
    """An id as text; a whole number that a column with gaps has made a float is whole again."""
    if isinstance(cell, float):
        cell = int(cell) if cell.is_integer() else None if cell != cell else cell
    return None if cell is None or cell == "" else str(cell)

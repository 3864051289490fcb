"""A CSV body → items: a header row, a column of URLs, maybe one of ids, and every other column a payload field."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

from shared.cells import cell_value
from shared.contract import Item
from shared.errors import RequestCode, RequestError
from shared.rows import Layout
from shared.table import Table


def table_items(
    body: io.BufferedReader, max_item_bytes: int, layout: Layout, delimiter: str
) -> Iterator[Item]:
    """The items of every row, in order; a row has several where its cell holds several URLs."""
    table = Table(body, max_item_bytes, delimiter)
    layout = replace(layout, id_column=layout.id_column or ("id" if "id" in table.columns else None))
    named = (
        ("url_column", layout.url_column),
        ("id_column", layout.id_column),
        ("group_column", layout.group_column),
    )
    for argument, name in (*named, *(("prices", price) for price in layout.prices)):
        if name is not None and name not in table.columns:
            raise _no_column(name, argument, table)
    layout = replace(layout, apart={layout.url_column, layout.id_column or ""})
    for cells in table:
        yield from layout.items(table.row(cells), cell_value)


def _no_column(name: str, argument: str, table: Table) -> RequestError:
    return RequestError(
        RequestCode.INVALID_BODY,
        f"The CSV has no column `{name[:100]}`; its header has {table.columns_in_words}. "
        f"Name the column with ?{argument}=.",
    )

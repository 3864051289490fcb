"""What the commands print for a person; a stranger's data never reaches the terminal raw."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PAYLOAD_WIDTH = 80
_UNFOLDED = 100_000
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on stdout; numbers stand on the right. On no terminal it is as wide as it needs to be."""
    console = Console()
    if not console.is_terminal:
        console.width = _UNFOLDED
    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = [list(row) for row in rows]
    for number, column in enumerate(columns):
        numeric = all(isinstance(row[number], int | float) for row in cells)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console.print(table)


def print_json(value: object) -> None:
    """One line of JSON on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV for spreadsheets: text that begins like a formula is quoted, or it would be run."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(cell) for cell in row] for row in rows)


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def plain(value: object) -> str:
    """A cell: nothing that a terminal obeys, an en dash for what is not known."""
    if value is None:
        return "–"
    text = (
        f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)
    )
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def short(payload: dict[str, Any]) -> str:
    """The client's own fields, cut to fit a line; the system's stand under a key that begins with `_`."""
    fields = "  ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in payload.items()
        if not key.startswith("_")
    )
    return fields if len(fields) <= _PAYLOAD_WIDTH else fields[: _PAYLOAD_WIDTH - 1] + "…"

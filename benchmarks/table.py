"""All rows as one table: on the terminal, and with the machine and the profiles in results.md."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.row import Row

_HEADINGS = ("what", "ours", "theirs", "unit", "ratio", "target", "")
_STYLES = {"met": "green", "short": "bold red", "not run": "yellow"}


def print_table(rows: Sequence[Row], console: Console) -> None:
    table = Table(*_HEADINGS, title="Side by side, in this call", title_justify="left")
    for number in (1, 2, 4):
        table.columns[number].justify = "right"
    for before, row in zip((None, *rows), rows, strict=False):
        if before and before.section != row.section:
            table.add_section()
        *cells, verdict = _cells(row)
        table.add_row(*cells, Text(verdict, style=_STYLES.get(verdict, "")))
        table.add_row(Text(f"  {row.note}", style="dim"))
    console.print(table)
    for row in rows:
        if row.profile:
            parts = ", ".join(f"{name} {_figure(value)}" for name, value in row.profile.items())
            console.print(f"{row.name}: {parts} {row.profile_unit}", style="dim", soft_wrap=True)


def write_results(rows: Sequence[Row], machine: Mapping[str, str], folder: Path) -> Path:
    """`results.md` in `folder`, and the figures beside it."""
    for row in rows:
        if row.figure:
            shutil.copyfile(row.figure, folder / row.figure.name)
    results = folder / "results.md"
    results.write_text(markdown(rows, machine))
    return results


def markdown(rows: Sequence[Row], machine: Mapping[str, str]) -> str:
    """The whole page."""
    return (
        "\n\n".join(
            [
                "# What `make bench` measured",
                "Every figure is a ratio of two things that ran side by side in one call, or of one to its budget, and "
                "both are here. *short* is short of its target.",
                _pipes(("", ""), machine.items()),
                *_tables(rows),
                "## What each row measures",
                "\n".join(f"- **{row.name}**: {row.note}." for row in rows),
                *_profiles(rows),
                *(f"![{row.name}]({row.figure.name})" for row in rows if row.figure),
            ]
        )
        + "\n"
    )


def _tables(rows: Sequence[Row]) -> list[str]:
    sections = dict.fromkeys(row.section for row in rows)
    return [
        f"## {section[0].upper()}{section[1:]}\n\n"
        + _pipes(_HEADINGS, [_cells(row) for row in rows if row.section == section])
        for section in sections
    ]


def _profiles(rows: Sequence[Row]) -> list[str]:
    profiles = [
        f"**{row.name}**, {row.profile_unit}\n\n"
        + _pipes(tuple(row.profile), [map(_figure, row.profile.values())])
        for row in rows
        if row.profile
    ]
    return ["## Where it goes", *profiles] if profiles else []


def _pipes(headings: Sequence[str], lines: object) -> str:
    rule = "|".join([" --- "] * len(headings))
    body = [f"| {' | '.join(map(str, cells))} |" for cells in lines]  # type: ignore[attr-defined]
    return "\n".join([f"| {' | '.join(headings)} |", f"|{rule}|", *body])


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.4f}" if 0.99 < row.ratio < 1 else f"{row.ratio:.2f}"
    return (row.name, _figure(row.ours), _figure(row.theirs), row.unit, ratio, row.target, row.verdict)


def _figure(value: float | None) -> str:
    """Four digits or so, whatever the size."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}"

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

import benchmarks.__main__ as bench
from benchmarks.context import Context
from benchmarks.row import Row


def good(context: Context) -> list[Row]:
    return [Row("good", "a figure", 2.0, 1.0, "images/s", "ours ÷ theirs")]


def bad(context: Context) -> Iterator[Row]:
    yield Row("bad", "before it broke", 3.0, 1.0, "images/s", "ours ÷ theirs")
    raise OSError("no broker")


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows of the table."""
    printed: list[Row] = []
    monkeypatch.setattr(bench, "print_table", lambda rows, console: printed.extend(rows))
    return printed


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[Row]]:
    """Two sections, the first of which breaks; what would go into the results."""
    written: list[list[Row]] = []

    def write_results(rows: list[Row], machine: dict[str, str], folder: Path) -> Path:
        written.append(rows)
        return folder / "results.md"

    monkeypatch.setattr(bench, "SECTIONS", {"bad": bad, "good": good})
    monkeypatch.setattr(bench, "write_results", write_results)
    monkeypatch.setattr(bench, "busy_with_others", lambda: 0.0)
    return written


def context(tmp_path: Path, *, quick: bool = False) -> Context:
    return Context(Console(quiet=True), tmp_path, tmp_path, quick)


def test_a_section_that_breaks_costs_its_further_rows_alone_and_nothing_is_written(
    written: list[list[Row]], printed: list[Row], tmp_path: Path
) -> None:
    broken: list[str] = []
    bench.run(context(tmp_path), ["bad", "good"], broken)
    assert broken == ["bad"]
    assert not written
    before, failed, after = printed
    assert before.ratio == 3
    assert failed.note == "not run: OSError, see above"
    assert after.ratio == 2


def test_a_whole_run_is_written(
    written: list[list[Row]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "SECTIONS", {"good": good})
    bench.run(context(tmp_path), ["good"], [])
    [[row]] = written
    assert row.ratio == 2


def test_a_part_of_the_benches_is_not_written(written: list[list[Row]], tmp_path: Path) -> None:
    bench.run(context(tmp_path), ["good"], [])
    assert not written


def test_a_quick_run_is_not_written(written: list[list[Row]], tmp_path: Path) -> None:
    bench.run(context(tmp_path, quick=True), ["bad", "good"], [])
    assert not written

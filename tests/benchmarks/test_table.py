from __future__ import annotations

import platform
from io import StringIO
from pathlib import Path

from rich.console import Console

from benchmarks.machine import machine
from benchmarks.memory import Sample, plot
from benchmarks.row import Row
from benchmarks.table import markdown, print_table, write_results
from demo.stack import ROOT

FAST = Row(
    "ingest",
    "end to end ÷ limit",
    24.1,
    25.0,
    "images/s",
    "the real stack ÷ its parts",
    at_least=0.95,
    profile={"ingest worker": 75.25, "API": 0.5},
    profile_unit="CPU ms/image",
)
SLOW = Row("ingest", "÷ notebook", 20.0, 10.0, "images/s", "ours ÷ theirs", at_least=3)
MISSING = Row.not_run("notebooks", "int8", "there is no quantizer")


def test_the_page_has_both_sides_the_target_and_the_verdict_of_every_row() -> None:
    page = markdown([FAST, SLOW, MISSING], {"CPU": "a processor"})
    assert "| end to end ÷ limit | 24.1 | 25.0 | images/s | 0.96 | ≥ 0.95 | met |" in page
    assert "| ÷ notebook | 20.0 | 10.0 | images/s | 2.00 | ≥ 3 | short |" in page
    assert "| int8 | – | – |  |  |  | not run |" in page
    assert "- **int8**: not run: there is no quantizer." in page
    assert "| CPU | a processor |" in page


def test_the_page_says_where_the_time_goes() -> None:
    page = markdown([FAST, SLOW], {})
    assert "**end to end ÷ limit**, CPU ms/image" in page
    assert "| ingest worker | API |" in page
    assert "| 75.2 | 0.5000 |" in page


def test_the_terminal_shows_both_sides_and_the_note() -> None:
    shown = StringIO()
    print_table([FAST, MISSING], Console(file=shown, width=200))
    for words in ("24.1", "25.0", "≥ 0.95", "met", "the real stack ÷ its parts", "there is no quantizer"):
        assert words in shown.getvalue()


def test_figures_are_written_beside_the_page(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    samples = [Sample(images=number, worker=500.0, family=700.0) for number in range(0, 2000, 100)]
    figure = plot(samples, tmp_path / "scratch" / "memory.svg")
    row = Row("memory", "memory", 500.0, 500.0, "MiB", "its end ÷ its start", at_most=1.05, figure=figure)
    results = write_results([row], {}, tmp_path)
    assert "![memory](memory.svg)" in results.read_text()
    assert "<svg" in (tmp_path / "memory.svg").read_text()


def test_the_machine_is_described_and_not_named() -> None:
    facts = machine(busy=0.25)
    assert facts["Python"] == platform.python_version()
    assert facts["torch"] != "not installed"
    assert facts["memory"].endswith(" GiB")
    assert facts["busy with other programs before"] == "25%"
    words = " ".join(facts.values())
    assert platform.node() not in words
    assert str(ROOT) not in words

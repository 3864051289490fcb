"""`python -m benchmarks [--only SECTION …] [--quick]`: every figure a ratio, all of them in one table.

A whole run of which nothing broke writes benchmarks/results.md. With `--only` or `--quick` the table is printed and
nothing is written: rows of two runs are never mixed, and a quick run's figures are only good to see that it works.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import ingest, memory, notebooks, stages
from benchmarks.context import Context
from benchmarks.machine import busy_with_others, machine
from benchmarks.row import Row
from benchmarks.scale import acceptance, engines, ledger, searches, workers
from benchmarks.table import print_table, write_results
from demo.stack import ROOT

SECTIONS: Mapping[str, Callable[[Context], Iterable[Row]]] = {
    stages.SECTION: stages.rows,
    ingest.SECTION: ingest.rows,
    notebooks.SECTION: notebooks.rows,
    "queue": ledger.rows,
    "acceptance": acceptance.rows,
    "workers": workers.rows,
    "searches": searches.rows,
    "engines": engines.rows,
    memory.SECTION: memory.rows,
}

_QUIET = 0.05

console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="; ".join(SECTIONS))
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=tuple(SECTIONS), metavar="SECTION")
    parser.add_argument("--quick", action="store_true", help="few images: to see that it works")
    arguments = parser.parse_args()
    for name in [*os.environ]:
        if name.startswith("LOOKALIKE_") or name in ("REDIS_URL", "QDRANT_URL"):
            del os.environ[name]  # the defaults are measured, and nobody's own servers are written to
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)  # so that what was started is stopped
    scratch = Path(tempfile.mkdtemp(prefix="lookalike-bench-"))
    context = Context(console, scratch, ROOT / ".cache", arguments.quick)
    broken: list[str] = []
    try:
        run(context, arguments.only, broken)
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 130
    finally:
        if broken:
            console.print(f"\nBroken: {', '.join(broken)}. The logs are kept in {scratch}.", style="red")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return 1 if broken else 0


def run(context: Context, sections: Sequence[str], broken: list[str]) -> None:
    """Measure, print, and write where all of it was measured. Sections that break are added to `broken`."""
    busy = busy_with_others()
    before = machine(busy)
    if busy > _QUIET:
        console.print(
            f"The machine is busy with other programs ({busy:.0%}): expect wrong figures.", style="red"
        )
    rows: list[Row] = []
    for section in sections:
        try:
            rows.extend(measured(context, section))
        except Exception as error:  # costs what is left of this section alone
            console.print_exception(max_frames=4)
            rows.append(Row.not_run(section, section, f"{type(error).__name__}, see above"))
            broken.append(section)
    print_table(rows, console)
    if set(sections) == set(SECTIONS) and not context.quick and not broken:
        if machine(busy)["commit"] != before["commit"]:
            before["commit"] += ", and changed while this ran"
        results = write_results(rows, before, Path(__file__).parent)
        console.print(f"\n{results.relative_to(ROOT)} has them all.")


def measured(context: Context, section: str) -> Iterator[Row]:
    console.print(f"\n[bold]{section}[/]")
    begun = time.monotonic()
    yield from SECTIONS[section](context)
    console.print(f"  [dim]{time.monotonic() - begun:.0f} s[/]")


if __name__ == "__main__":
    sys.exit(main())

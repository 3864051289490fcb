"""What queue and ledger cost: CPU milliseconds an item of API, broker and a real worker that does nothing with it.

From the submission over HTTP to the recorded end, at the chunk size as shipped and around it. What the three
processes use while they have nothing to do is measured first and taken off.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from benchmarks.context import Context
from benchmarks.row import Row
from benchmarks.scale.processes import cpu_seconds
from benchmarks.scale.site import Site, ndjson, site

CHUNK_SIZES = (16, 64, 256)
SHIPPED = 64
BUDGET_MS = 1.0

_SECTION = "Queue and ledger"
_APP = "benchmarks.scale.hollow_worker"
_SETTLE_SECONDS = 3.0
_IDLE_SECONDS = 10.0


@dataclass(frozen=True)
class Cost:
    """CPU milliseconds an item by process, at one chunk size; `idle` is what was taken off, in cores, of all."""

    chunk_size: int
    items: int
    milliseconds: Mapping[str, float]
    idle: float

    @property
    def total(self) -> float:
        return sum(self.milliseconds.values())


def measure(where: Site, worker: psutil.Process, chunk_size: int, items: int) -> Cost:
    """A job of `items` from its submission to its end, less the idle cost of as long a time."""
    lines = list(ndjson(_item(number) for number in range(items)))
    with where.api(LOOKALIKE_CHUNK_SIZE=str(chunk_size)) as api:
        processes = {"API": api, "broker": where.broker, "worker": worker}
        time.sleep(_SETTLE_SECONDS)
        idle = _cores(processes)
        before, begun = _seconds(processes), time.monotonic()
        where.ended(where.submit(f"chunks-of-{chunk_size}", lines))
        elapsed, after = time.monotonic() - begun, _seconds(processes)
    used = {name: after[name] - before[name] - idle[name] * elapsed for name in processes}
    milliseconds = {name: seconds * 1000 / items for name, seconds in used.items()}
    return Cost(chunk_size, items, milliseconds, sum(idle.values()))


def _item(number: int) -> dict[str, object]:
    return {"url": f"https://images.shop.example/{number}.jpg", "payload": {"shelf": number % 100}}


def _cores(processes: Mapping[str, psutil.Process]) -> dict[str, float]:
    """What each of them keeps busy while there is nothing to do."""
    before = _seconds(processes)
    time.sleep(_IDLE_SECONDS)
    return {name: (seconds - before[name]) / _IDLE_SECONDS for name, seconds in _seconds(processes).items()}


def _seconds(processes: Mapping[str, psutil.Process]) -> dict[str, float]:
    return {name: cpu_seconds(process) for name, process in processes.items()}


def rows(context: Context) -> list[Row]:
    """The cost at the shipped chunk size against its budget, and at each other size against that."""
    items = context.count(65_536, 8_192)
    costs = {}
    # The store's socket is never opened: this worker has nothing to keep.
    with (
        site(context.scratch / "ledger", LOOKALIKE_STORE_SOCKET=str(context.scratch / "none")) as where,
        where.workers(_APP, 1, "hollow") as [worker],
    ):
        for size in CHUNK_SIZES:
            costs[size] = measure(where, worker, size, items)
            context.say(_note(costs[size]))
    shipped = costs[SHIPPED]
    return [
        _row(shipped, f"CPU an item, chunks of {SHIPPED} ÷ budget", BUDGET_MS, at_most=1.0),
        *(
            _row(cost, f"CPU an item, chunks of {cost.chunk_size} ÷ of {SHIPPED}", shipped.total)
            for cost in costs.values()
            if cost is not shipped
        ),
    ]


def _row(cost: Cost, name: str, theirs: float, at_most: float | None = None) -> Row:
    return Row(
        _SECTION,
        name,
        cost.total,
        theirs,
        "ms of CPU",
        _note(cost),
        at_most=at_most,
        profile=cost.milliseconds,
        profile_unit="ms of CPU an item",
    )


def _note(cost: Cost) -> str:
    parts = ", ".join(f"{name} {milliseconds:.3f}" for name, milliseconds in cost.milliseconds.items())
    return (
        f"{cost.items:,} items in chunks of {cost.chunk_size}: {cost.total:.3f} ms of CPU an item ({parts}); "
        f"{cost.idle:.3f} cores of idle work taken off"
    )

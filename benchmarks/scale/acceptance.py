"""A million items accepted: how fast the API takes NDJSON in, and whether its memory stays flat.

gunicorn as `lookalike up` starts it, a durable broker, a client on the same machine, and no worker. Beside it, what one
thread does without HTTP, ledger and messages: the same body read into the same chunks and packed for Redis.
"""

from __future__ import annotations

import io
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import cast

from api.lists import ndjson_items
from benchmarks.context import Context
from benchmarks.row import Row
from benchmarks.scale.processes import Sampler, cpu_seconds, resident_bytes
from benchmarks.scale.site import Site, site
from shared.contract import ITEMS
from shared.ledger import Ledger

TARGET_PER_SECOND = 20_000
FLAT = 1.1

_SECTION = "Acceptance"
_LINES_A_PIECE = 500
_WARM = 0.1  # of the job: what the API then holds it needs for any job


@dataclass(frozen=True)
class Acceptance:
    """One submission of `items`: seconds, API's CPU seconds, and resident bytes over time (seconds, bytes)."""

    items: int
    seconds: float
    api_cpu: float
    broker_cpu: float
    memory: list[tuple[float, float]]
    broker_before: int
    broker_after: int

    @property
    def rate(self) -> float:
        return self.items / self.seconds

    @property
    def warm(self) -> float:
        """Most resident bytes in the first tenth."""
        return max(size for moment, size in self.memory if moment <= _WARM * self.seconds)

    @property
    def most(self) -> float:
        return max(size for _, size in self.memory)


def accept(where: Site, items: int) -> Acceptance:
    """Submit them in one request and wait for its 202."""
    with where.api() as api:
        start = resident_bytes(api)
        before = where.redis.info("memory")["used_memory"]
        api_cpu, broker_cpu = cpu_seconds(api), cpu_seconds(where.broker)
        begun = time.monotonic()
        with Sampler(lambda: resident_bytes(api)) as sampler:
            job = where.submit("accepted", _pieces(items))
            seconds = time.monotonic() - begun
        api_cpu, broker_cpu = cpu_seconds(api) - api_cpu, cpu_seconds(where.broker) - broker_cpu
    total = Ledger(where.redis, where.settings).snapshot(job).total
    assert total == items, f"{total} of {items} were accepted"
    memory = [(0.0, float(start)), *((moment - begun, size) for moment, size in sampler.samples)]
    after = where.redis.info("memory")["used_memory"]
    return Acceptance(items, seconds, api_cpu, broker_cpu, memory, before, after)


def _pieces(items: int) -> Iterator[bytes]:
    """The body, some hundred lines at a time."""
    for first in range(0, items, _LINES_A_PIECE):
        yield b"".join(_line(number) for number in range(first, min(first + _LINES_A_PIECE, items)))


def _line(number: int) -> bytes:
    return b'{"url":"https://images.shop.example/a/%d.jpg","id":"%d","payload":{"shelf":%d}}\n' % (
        number,
        number,
        number % 100,
    )


def plain_rate(where: Site, items: int) -> float:
    """Items a second of one thread that reads a body and packs its chunks, and nothing else."""
    body = cast(io.BufferedReader, io.BytesIO(b"".join(_pieces(items))))
    size = where.settings.chunk_size
    begun = time.thread_time()
    found = ndjson_items(body, where.settings.max_item_bytes)
    while chunk := list(islice(found, size)):
        zlib.compress(ITEMS.dump_json(chunk, exclude_defaults=True), 3)
    return items / (time.thread_time() - begun)


def rows(context: Context) -> list[Row]:
    """The rate against its target and against the plain reading; the API's most memory against what it had warm."""
    items = context.count(1_000_000, 100_000)
    with site(context.scratch / "acceptance") as where:
        accepted = accept(where, items)
        plain = plain_rate(where, items // 10)
    note = _note(accepted)
    context.say(note)
    return [
        Row(
            _SECTION,
            "items accepted ÷ target",
            accepted.rate,
            TARGET_PER_SECOND,
            "items/s",
            note,
            at_least=1.0,
        ),
        Row(
            _SECTION,
            "items accepted ÷ the plain reading",
            accepted.rate,
            plain,
            "items/s",
            "against one thread that reads the same lines into chunks and packs them, without HTTP, ledger, messages",
        ),
        Row(
            _SECTION,
            "API memory, most ÷ warm",
            accepted.most / 2**20,
            accepted.warm / 2**20,
            "MiB",
            f"warm: the most while the first tenth of {items:,} items came in",
            at_most=FLAT,
        ),
    ]


def _note(accepted: Acceptance) -> str:
    memory = [size / 2**20 for _, size in accepted.memory]
    broker = (accepted.broker_after - accepted.broker_before) / accepted.items
    api, server = (cpu * 1e6 / accepted.items for cpu in (accepted.api_cpu, accepted.broker_cpu))
    return (
        f"{accepted.items:,} items in {accepted.seconds:.1f} s; CPU an item: API {api:.0f} µs, broker {server:.0f} µs; "
        f"API {memory[0]:.0f} MiB at the start, {max(memory):.0f} at most, {memory[-1]:.0f} at the end; "
        f"broker {broker:.0f} bytes an item"
    )

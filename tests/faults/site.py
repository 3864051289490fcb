"""Where the faults strike: a whole stack, its images, and two who look on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.processes import redis_url
from tests.faults.record import Record
from tests.faults.watch import Watch
from tests.image_server import ImageServer
from tests.system.stack import Stack

CHUNK = 8
LEASE_SECONDS = 3


@dataclass
class Site:
    stack: Stack
    images: ImageServer
    record: Record
    watch: Watch


@contextmanager
def running(folder: Path, images: ImageServer, settings: Mapping[str, str]) -> Iterator[Site]:
    """A stack under watch until the end of the block."""
    stack = Stack(folder / "data", **settings)
    stack.start()
    try:
        record = Record(redis_url(stack))
        watch = Watch(stack.url, record)
        watch.start()
        yield Site(stack, images, record, watch)
        watch.stop()
        assert watch.moments > 0
    finally:
        code = stack.stop()
    assert code == 0

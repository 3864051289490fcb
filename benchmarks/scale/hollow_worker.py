"""The workers' application whose chunks are claimed and recorded, with nothing in between.

What is left is the cost of queue and ledger: `celery -A benchmarks.scale.hollow_worker worker …`.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.scale.slow_worker import app
from shared.contract import Chunk, ChunkReport, ItemOutcome
from workers import tasks
from workers.lease import LeaseState
from workers.parts import Parts

__all__ = ["app"]


def _nothing(chunk: Chunk, parts: Parts, lease: Callable[[], LeaseState]) -> ChunkReport:
    """An ingest's report without its work; the lease is looked at once, as there."""
    lease()
    return ChunkReport(chunk, [ItemOutcome(item, "indexed") for item in chunk.items])


tasks.ingest = _nothing

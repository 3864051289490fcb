"""The leases that this worker holds, renewed at a third of their length while their chunks are worked on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from shared.contract import Chunk
from shared.ledger import Ledger
from workers.periodic import Periodic

LeaseState = Literal["held", "lost", "cancelled"]


class Leases:
    """One thread renews them all."""

    def __init__(self, ledger: Ledger, lease_seconds: float) -> None:
        self._ledger = ledger
        self._held: dict[str, Chunk] = {}
        self._lock = threading.Lock()
        self._renewing = Periodic("lease renewal", lease_seconds / 3, self._renew)
        self._renewing.start()

    @contextmanager
    def hold(self, chunk: Chunk) -> Iterator[None]:
        """Keep the chunk's lease alive until the block ends."""
        with self._lock:
            self._held[chunk.token] = chunk
        try:
            yield
        finally:
            with self._lock:
                del self._held[chunk.token]

    def state(self, chunk: Chunk) -> LeaseState:
        """Renewed right now, so that what is written next is written under a live lease."""
        return self._ledger.renew(chunk)

    def close(self) -> None:
        self._renewing.stop()

    def _renew(self) -> None:
        with self._lock:
            chunks = list(self._held.values())
        for chunk in chunks:
            self._ledger.renew(chunk)

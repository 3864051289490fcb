"""The leases that this worker holds, renewed at a third of their length while their chunks are worked on."""

from __future__ import annotations

import threading
import time
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
        self._held: dict[str, tuple[Chunk, float]] = {}
        self._lock = threading.Lock()
        self.refused = False
        self._renewing = Periodic("lease renewal", lease_seconds / 3, self._renew)
        self._renewing.start()

    @contextmanager
    def hold(self, chunk: Chunk) -> Iterator[None]:
        """Keep the chunk's lease alive until the block ends, or until it is given back."""
        with self._lock:
            self._held[chunk.token] = chunk, time.monotonic()
        try:
            yield
        finally:
            self._let_go(chunk)

    def held(self, *, longer_than: float = 0.0) -> list[Chunk]:
        """The chunks in hand for more than so many seconds."""
        before = time.monotonic() - longer_than
        with self._lock:
            return [chunk for chunk, since in self._held.values() if since <= before]

    def state(self, chunk: Chunk) -> LeaseState:
        """Renewed right now, so that what is written next is written under a live lease."""
        return self._ledger.renew(chunk)

    def give_back(self, chunk: Chunk, *, counts: bool, reason: str) -> None:
        """From now on another worker may have the chunk. Where Redis is away, its lease just runs out."""
        self._let_go(chunk)
        self._ledger.release(chunk, after=0, counts=counts, reason=reason)

    def refuse(self) -> None:
        """Nothing more is to be claimed: the worker stops."""
        self.refused = True

    def close(self) -> None:
        self._renewing.stop()

    def _let_go(self, chunk: Chunk) -> None:
        with self._lock:
            self._held.pop(chunk.token, None)

    def _renew(self) -> None:
        for chunk in self.held():
            self._ledger.renew(chunk)

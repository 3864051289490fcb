"""Who works beside whom: a chunk whose last run broke runs alone, so that it takes no innocent chunk along."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Shared by a worker's tasks. A suspect waits until the others have ended, and they wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._suspects = 0  # those that wait, and the one that runs

    @contextmanager
    def take(self, *, alone: bool) -> Iterator[None]:
        """Wait for the turn, and keep it until the block ends."""
        with self._changed:
            self._suspects += alone
            self._changed.wait_for(lambda: self._running == 0 if alone else self._suspects == 0)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._suspects -= alone
                self._changed.notify_all()

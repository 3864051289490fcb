"""How long the stages of a search took."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Milliseconds of each stage, added up over what runs side by side."""

    def __init__(self, queue: float) -> None:
        self._lock = threading.Lock()
        self._took = {"queue": queue, "fetch": 0.0, "embed": 0.0, "search": 0.0}

    @property
    def milliseconds(self) -> dict[str, float]:
        return {stage: round(took, 2) for stage, took in self._took.items()}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._took[stage] += (time.perf_counter() - start) * 1000

"""A thread that does one thing every few seconds until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("lookalike.periodic")


class Periodic(threading.Thread):
    """Calls `action` every `seconds`, the first time at once. A call that raises is logged, and the next one comes."""

    def __init__(self, name: str, seconds: float, action: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self._seconds = seconds
        self._action = action
        self._stopped = threading.Event()
        self._failing = False

    def run(self) -> None:
        while True:
            try:
                self._action()
                self._failing = False
            except Exception as error:
                # Said once, not every few seconds while Redis is away.
                if not self._failing:
                    log.warning("%s failed: %s: %s", self.name, type(error).__name__, error)
                self._failing = True
            if self._stopped.wait(self._seconds):
                return

    def stop(self) -> None:
        """Once the action that runs has ended; one that was never started may be stopped too."""
        self._stopped.set()
        if self.is_alive():
            self.join()

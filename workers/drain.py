"""How a worker ends: it takes nothing new, chunks in hand may end, and what is left is given back."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import suppress
from typing import NoReturn

import redis
from celery.worker import state

from workers.lease import Leases

log = logging.getLogger("lookalike.worker")

_LOOK_SECONDS = 0.1
# Enough for Celery to close up by itself once nothing is in hand, and for Redis to take a few leases back.
_CLOSE_SECONDS = 5.0
_GIVE_BACK_SECONDS = 5.0

# A supervisor that restarts only what failed must restart a worker that ended itself.
AGAIN = 1


def leave(code: object) -> NoReturn:
    """End the process at once; `code` as of `sys.exit`.

    An interpreter that closes down takes native libraries away from under their threads, and a worker that loads a
    model meanwhile would die of a signal (SIGABRT, SIGSEGV) instead of ending well.
    """
    last_words = "" if isinstance(code, int | None) else f"{code}\n"
    try:
        logging.shutdown()
        for stream, words in ((sys.stdout, ""), (sys.stderr, last_words)):
            with suppress(OSError):  # whoever read it may be gone
                stream.write(words)
                stream.flush()
    finally:
        os._exit(code if isinstance(code, int) else int(code is not None))


class Drain:
    """Bounds Celery's own warm stop, which waits for every task and every connection, however long.

    The process is gone `seconds` after the first signal or request and the time to give leases back, 5 s.
    """

    def __init__(self, leases: Leases, seconds: float) -> None:
        self._leases = leases
        self._seconds = seconds
        self._signals = 0
        self._begun = False
        self._exit_code = 0

    def on_signal(self) -> None:
        """A signal asked the worker to stop; the second one waits for nothing. Runs in the signal's handler."""
        self._signals += 1
        self._begin()

    def ask(self, reason: str) -> None:
        """The worker ends for a reason of its own. Safe to call again, from any thread."""
        if not self._begun:
            log.error("this worker ends, for its supervisor to start it again: %s", reason)
            self._exit_code = AGAIN
            state.should_stop = AGAIN  # what Celery's own handler of SIGTERM sets
            self._begin()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._leases.refuse()
            threading.Thread(target=self._run, name="drain", daemon=True).start()

    def _run(self) -> None:
        deadline = time.monotonic() + self._seconds
        closing_since = time.monotonic()
        while self._signals < 2 and time.monotonic() < deadline:
            if state.active_requests:
                closing_since = time.monotonic()
            elif time.monotonic() - closing_since > _CLOSE_SECONDS:
                break
            time.sleep(_LOOK_SECONDS)
        giving = threading.Thread(target=self._give_back, name="giving back", daemon=True)
        giving.start()
        giving.join(_GIVE_BACK_SECONDS)
        # Past threads that hang and connections that do not close; a worker that could stop by itself is gone by now.
        os._exit(self._exit_code)

    def _give_back(self) -> None:
        chunks = self._leases.held()
        try:
            for chunk in chunks:
                self._leases.give_back(chunk, counts=False, reason="its worker was asked to stop")
        except redis.RedisError as error:
            log.warning("chunks in hand wait until their leases run out, Redis takes none back: %s", error)
        else:
            log.info("gave %d chunks back", len(chunks))

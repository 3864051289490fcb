"""What is accepted but stands still is sent again: a message was lost, or the worker that held the lease died.

Celery on Redis loses messages even when they are acknowledged late (ARCHITECTURE.md); the ledger does not.
A job whose body broke off with the API that read it is ended with a word.
"""

from __future__ import annotations

import logging
import time

import redis

from shared.broker import Broker
from shared.contract import INGEST_CHUNK
from shared.ledger import Ledger
from shared.settings import Settings

log = logging.getLogger("lookalike.reconcile")

_LOCK = "lookalike:reconciler"
# Chunks that wait in a long queue stand still without being lost. So no more is sent again than keeps the queue
# this short: a lost one then waits for the queue to drain, and none is queued over and over.
_QUEUE_ROOM = 64
_PAUSE_SECONDS = 0.3


class Reconciler:
    """Runs on every ingest worker; the lock lets one at a time through."""

    def __init__(self, client: redis.Redis, ledger: Ledger, broker: Broker, settings: Settings) -> None:
        self._redis = client
        self._ledger = ledger
        self._broker = broker
        self._every = settings.reconcile_seconds * 0.9
        self._accepting = settings.accepting_seconds

    def run(self) -> int:
        """Send again what stands still; returns how many chunks.

        Where more stands still than the queue has room for, it goes on for as long as the lock lasts.
        """
        until = time.monotonic() + self._every
        if not self._redis.set(_LOCK, "1", nx=True, px=max(1, int(self._every * 1000))):
            return 0
        self._end_abandoned()
        self._ledger.forget_expired()
        sent = 0
        while True:
            room = max(_QUEUE_ROOM - int(self._redis.llen(INGEST_CHUNK.queue)), 0)
            overdue = self._ledger.overdue(room)
            for job, number in overdue:
                self._broker.send(INGEST_CHUNK, job, number)
                log.info("sent again", extra={"job": job, "chunk": number})
            sent += len(overdue)
            if not overdue or len(overdue) < room or time.monotonic() + _PAUSE_SECONDS > until:
                return sent
            time.sleep(_PAUSE_SECONDS)

    def _end_abandoned(self) -> None:
        for job in self._ledger.abandoned(self._accepting):
            self._ledger.cancel(
                job, "Its body was never read to the end. Submit it again: nothing is doubled."
            )
            log.warning("ended a job whose body broke off", extra={"job": job})

"""What is accepted but stands still is sent again: a message was lost, or the worker that held the lease died.

Celery on Redis loses messages even when they are acknowledged late (ARCHITECTURE.md); the ledger does not.
A job whose body broke off with the API that read it is ended with a word.
"""

from __future__ import annotations

import logging

import redis

from shared.broker import Broker
from shared.contract import INGEST_CHUNK
from shared.ledger import Ledger

log = logging.getLogger("lookalike.reconcile")

_LOCK = "lookalike:reconciler"
# Chunks that wait in a long queue stand still without being lost. So no more is sent again than keeps the queue
# this short: a lost one then waits for the queue to drain, and none is queued over and over.
_QUEUE_ROOM = 64
# A client may be slow; one that sent nothing for so long is gone, or the API that read it is.
_BODY_IDLE_SECONDS = 600.0


class Reconciler:
    """Runs on every ingest worker; the lock lets one at a time through."""

    def __init__(self, client: redis.Redis, ledger: Ledger, broker: Broker, every_seconds: float) -> None:
        self._redis = client
        self._ledger = ledger
        self._broker = broker
        self._lock_ms = int(every_seconds * 900)

    def run(self) -> int:
        """Send again what stands still; returns how many chunks."""
        if not self._redis.set(_LOCK, "1", nx=True, px=self._lock_ms):
            return 0
        self._end_abandoned()
        room = _QUEUE_ROOM - int(self._redis.llen(INGEST_CHUNK.queue))
        overdue = self._ledger.overdue(max(room, 0))
        for job, number in overdue:
            self._broker.send(INGEST_CHUNK, job, number)
            log.info("sent again", extra={"job": job, "chunk": number})
        return len(overdue)

    def _end_abandoned(self) -> None:
        for job in self._ledger.abandoned(_BODY_IDLE_SECONDS):
            self._ledger.cancel(
                job, "Its body was never read to the end. Submit it again: nothing is doubled."
            )
            log.warning("ended a job whose body broke off", extra={"job": job})

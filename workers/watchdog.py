"""Sees whether this worker still works, and ends it where it does not: its supervisor starts it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import redis
from celery.worker import state

from shared.settings import Settings
from workers.lease import Leases

LOOK_SECONDS = 1.0


class Watchdog:
    """`look` is called every LOOK_SECONDS. `end` ends the worker with a reason.

    Idle time is counted in looks: a process that was paused, or a machine that slept, was not idle.
    """

    def __init__(
        self,
        client: redis.Redis,
        queues: Sequence[str],
        slots: int,
        leases: Leases,
        settings: Settings,
        end: Callable[[str], None],
    ) -> None:
        self._redis = client
        self._queues = queues
        self._slots = slots
        self._leases = leases
        self._chunk_seconds = settings.chunk_seconds
        self._idle_seconds = settings.idle_seconds
        self._end = end
        self._idle_looks = 0
        self._taken = state.all_total_count[0]

    def look(self) -> None:
        """Once. What Redis raises is no fault of the worker, and the count of idle looks begins anew."""
        self._end_what_hangs()
        idle_looks, self._idle_looks = self._idle_looks, 0
        if self._takes_nothing():
            self._idle_looks = idle_looks + 1
        if self._idle_looks * LOOK_SECONDS >= self._idle_seconds:
            self._end(
                f"it has a free slot and took nothing from the filled queue {' or '.join(self._queues)} "
                f"for {self._idle_seconds:g} s"
            )

    def _end_what_hangs(self) -> None:
        for chunk in self._leases.held(longer_than=self._chunk_seconds):
            reason = (
                f"chunk {chunk.number} of {chunk.job} was in hand for {self._chunk_seconds:g} s and hangs"
            )
            self._end(reason)
            self._leases.give_back(chunk, counts=True, reason=reason)

    def _takes_nothing(self) -> bool:
        """Whether messages lie in the queue, and none was taken since the last look, though a slot was free.

        A worker that listens never lets messages lie: Redis hands each to whoever has waited longest. Searches take
        no lease and never take long: slots that are full of them for all this time hang, and count as free.
        """
        taken = state.all_total_count[0]
        took, self._taken = taken != self._taken, taken
        if took or (len(state.active_requests) >= self._slots and self._leases.held()):
            return False
        return any(self._redis.llen(queue) for queue in self._queues)

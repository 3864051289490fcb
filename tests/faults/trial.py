"""One fault, struck again and again while jobs run, and what must hold whenever a job ends."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.faults.pictures import items
from tests.faults.site import Site
from tests.faults.table import Row

_ITEMS, _IMAGE_SECONDS = 320, 0.2
_ENOUGH = 20  # chunks that a job must still have for another fault
_LONGEST_PAUSE = 1.2  # seconds, in which a worker ends fewer chunks than that


@dataclass
class Accepted:
    """A job and what it was given."""

    id: str
    collection: str
    count: int


@dataclass
class Trial:
    """`chance` is seeded: the same seed strikes after the same pauses."""

    site: Site
    row: Row
    chance: random.Random
    job: Accepted | None = None
    _struck: float = 0.0
    _held: set[int] = field(default_factory=set)
    _ended: int = 0

    def repeat(self, rounds: int) -> Iterator[int]:
        """Count the rounds, and say how they went."""
        for number in range(1, rounds + 1):
            yield number
            self.row.rounds += 1
            assert not self.site.watch.contradictions, self.site.watch.contradictions[:5]
            recovery = f"{self.row.recoveries[-1]:.1f} s" if self.row.recoveries else "–"
            print(f"{self.row.fault}: round {number} of {rounds}, recovery {recovery}", flush=True)

    def under_load(self, rounds: int) -> Iterator[Accepted]:
        """A running job at a random moment, for each round; the fault's recovery is measured after it."""
        for _ in self.repeat(rounds):
            job = self._running_job()
            self.pause(_LONGEST_PAUSE)
            self.strike()
            recoveries = len(self.row.recoveries)
            yield job
            if len(self.row.recoveries) == recoveries:
                self.await_recovery()
        if self.job:
            self.settle(self.job)

    def pause(self, longest: float) -> None:
        time.sleep(self.chance.uniform(0, longest))

    def strike(self) -> None:
        """The fault is now: what is held at this moment must end."""
        assert self.job
        self._held = self.site.record.held(self.job.id)
        self._ended = self.site.record.ended(self.job.id)
        self._struck = time.monotonic()

    def await_recovery(self) -> None:
        """Until every chunk that was held has ended; where none was held, until the job goes on."""
        job = self.job
        assert job
        record = self.site.record
        if self._held:
            self.measure(lambda: not record.standing(job.id, self._held), job)
        else:
            self.measure(lambda: record.ended(job.id) > self._ended, job)

    def measure(self, recovered: Callable[[], bool], job: Accepted) -> None:
        """Note how long after the strike it was `recovered`."""
        self.until(recovered, job)
        self.row.recoveries.append(time.monotonic() - self._struck)

    def until(self, condition: Callable[[], bool], job: Accepted) -> None:
        """Wait, whoever is dead meanwhile. What stands still for long is stuck."""
        try:
            self.site.stack.until(lambda: _quietly(condition), f"{self.row.fault}: job {job.id} stands still")
        except AssertionError:
            self.row.stuck += 1
            raise

    def submit(self, count: int = _ITEMS, seconds: float = _IMAGE_SECONDS) -> Accepted:
        """A new job of images that take `seconds` each, into a collection of its own."""
        collection = self.new_collection()
        id = self.site.stack.submit(collection, items(self.site.images, count, seconds))
        return self.adopt(id, collection, count)

    def adopt(self, id: str, collection: str, count: int) -> Accepted:
        """From now on this is the trial's job."""
        self.job = Accepted(id, collection, count)
        self.site.watch.follow(id)
        return self.job

    def new_collection(self) -> str:
        return f"c-{self.chance.getrandbits(64):016x}"

    def settle(self, job: Accepted) -> None:
        """Await a job's end: each item was indexed, once."""
        end = self.end(job)
        assert (end["state"], end["indexed"], end["unchanged"]) == ("done", job.count, 0), end

    def end(self, job: Accepted) -> dict[str, Any]:
        """Await a job's end, hold it against the index, and see that nothing of it stays in Redis.

        Lost: accepted, but neither in the index nor failed. Doubled: counted twice.
        """
        self.until(lambda: self.site.record.state(job.id) in ("done", "cancelled"), job)
        self.until(lambda: not self.site.record.unrest(), job)
        end = self.site.stack.ended(job.id)
        images = self.site.stack.count(job.collection)
        failed = len(self.site.stack.failures(job.id)) if end["failed"] else 0
        self.row.lost += max(0, end["total"] - images - failed)
        self.row.doubled += max(0, end["indexed"] + end["unchanged"] - images)
        assert (self.row.lost, self.row.doubled) == (0, 0), (end, images)
        assert failed == sum(end["failures"].values()) == end["failed"], end
        self.site.watch.forget(job.id)
        self.job = None
        return end

    def _running_job(self) -> Accepted:
        if self.job and len(self.site.record.pending(self.job.id)) < _ENOUGH:
            self.settle(self.job)
        job = self.job or self.submit()
        self.until(lambda: bool(self.site.record.held(job.id)), job)
        return job


def _quietly(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (redis.RedisError, OSError):
        return False
